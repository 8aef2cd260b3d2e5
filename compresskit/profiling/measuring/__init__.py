"""TODO-ROOM measuring."""
