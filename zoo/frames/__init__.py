"""TODO-ROOM frames."""
