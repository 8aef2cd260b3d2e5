"""TODO-ROOM photographs."""
