"""TODO-ROOM checking."""
