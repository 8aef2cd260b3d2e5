"""TODO-ROOM counting."""
