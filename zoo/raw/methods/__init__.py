"""TODO-ROOM methods."""
