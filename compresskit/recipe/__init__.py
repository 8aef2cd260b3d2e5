"""Recipes: YAML to the objects of `compresskit.distill`, and a whole run from data to the table at its end."""
