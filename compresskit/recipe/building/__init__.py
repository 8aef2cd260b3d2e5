"""The objects of a recipe. See `compresskit.recipe` for its files.

In reading order: `components`, `closed_form`, `trained_model`, `model_argument`.
"""
