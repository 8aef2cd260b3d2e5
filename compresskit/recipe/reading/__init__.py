"""TODO-ROOM reading."""
