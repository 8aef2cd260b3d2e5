"""TODO-ROOM training."""
