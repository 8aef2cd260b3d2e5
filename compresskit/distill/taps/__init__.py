"""TODO-ROOM taps."""
