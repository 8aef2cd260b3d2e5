"""The reading of a recipe: from YAML to a checked `Recipe`. Nothing is built, and no file but the recipe is opened.

load.py         load_recipe and Recipe
shipped.py      recipes that come with compresskit, by name
yaml.py         plain data and line numbers from YAML, and back
overrides.py    changes by path: presets and `--set`
locations.py    SourceMap: the origin of each part, for the messages of errors
stage_nodes.py  stages: plain data to `Stage`, `Match` and `Task`, and back
run_files.py    names of the files in a run's folder
"""
