"""TODO-ROOM running."""
