"""TODO-ROOM session."""
