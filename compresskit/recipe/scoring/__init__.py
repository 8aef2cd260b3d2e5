"""TODO-ROOM scoring."""
