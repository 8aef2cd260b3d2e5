"""TODO-ROOM cache."""
