"""Figures of every model of a run. See `compresskit.recipe` for its files.

In reading order: `metric`, `measure`, `differences`, `tables`, `card`, `bootstrap`, `method_scores`, `evaluate`.
"""
