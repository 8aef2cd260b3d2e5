"""TODO-ROOM sensor."""
