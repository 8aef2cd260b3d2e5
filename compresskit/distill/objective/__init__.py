"""TODO-ROOM objective."""
