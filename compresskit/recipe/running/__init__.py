"""Runs: from a recipe to a folder with everything that came of it.

run.py             run_recipe: build, train each part, measure, write
folder.py          the choice of the folder, and the check that it holds this recipe
resume_command.py  the command that resumes a run, shown when one is stopped
seeds.py           run_seeds: one recipe under several seeds
export.py          export_model: a run's model as ONNX or .pt2
"""
