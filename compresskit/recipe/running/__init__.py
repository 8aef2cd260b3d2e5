"""Runs from a recipe to a folder. See `compresskit.recipe` for its files.

In reading order: `run`, `finished`, `folder`, `resume_command`, `seeds`, `export`.
"""
