"""TODO-ROOM building."""
