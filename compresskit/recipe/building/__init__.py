"""The objects of a recipe: data, models and evaluation from its nodes, and models from the folders of runs.

- `components`: the data, models and evaluation of a run; the stages of the control.
- `closed_form`: modules that are solved on the training data instead of being trained.
- `trained_model`: `load_model`, a model that a run has trained.
- `model_argument`: the argument MODEL of the command line, a dotted name or RECIPE#student.
"""
