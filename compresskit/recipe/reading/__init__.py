"""The reading of a recipe. See `compresskit.recipe` for its files.

In reading order: `load`, `shipped`, `yaml`, `overrides`, `locations`, `stage_nodes`.
"""
