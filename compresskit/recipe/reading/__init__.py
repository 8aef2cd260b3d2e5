"""The reading of a recipe: from YAML to a checked `Recipe`. Nothing is built, and no other file is opened.

- `load`: `load_recipe` and `Recipe`.
- `shipped`: recipes that come with compresskit, by name.
- `yaml`: plain data and line numbers from YAML, and back.
- `overrides`: changes by path, from presets and `--set`.
- `locations`: `SourceMap`, the origin of each part, for the messages of errors.
- `stage_nodes`: stages, from plain data to `Stage`, `Match` and `Task`, and back.
- `run_files`: names of the files in a run's folder.
"""
