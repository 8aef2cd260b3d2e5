"""Runs: from a recipe to a folder with all results.

- `run`: `run_recipe`, which builds, trains each part, measures and writes.
- `finished`: whether a folder holds a finished run, with all its files whole.
- `folder`: the choice of the folder, and the check that it holds this recipe.
- `resume_command`: the command that resumes a stopped run.
- `seeds`: `run_seeds`, one recipe under several seeds.
- `export`: `export_model`, a run's model as ONNX or `.pt2`.
"""
