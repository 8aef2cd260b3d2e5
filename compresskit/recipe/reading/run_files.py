"""The files of a run's folder, by name."""

RECIPE_FILE = "recipe.yaml"
"""The resolved recipe. Written first: where it is, a run has begun."""

ENVIRONMENT_FILE = "environment.json"

FITTED_FILE = "fitted.safetensors"
"""State of the modules that are solved in closed form."""

WEIGHTS_FILE = "student.safetensors"
"""Weights of a finished part of the run; each part but the student's has a folder of its own."""

EVALUATION_FILE = "evaluation.json"

SUMMARY_FILE = "summary.json"
"""Written last: where it is, the run is finished."""
