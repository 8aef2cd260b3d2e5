"""TODO-ROOM spec."""
