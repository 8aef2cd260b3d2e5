"""The objects of a recipe: data, models and evaluation from its nodes, and models from the folders of runs.

components.py      Components: everything that a run works on; the stages of the control
weights.py         weights from a file, all of them or none
closed_form.py     modules that are solved on the training data instead of being trained
trained_model.py   load_model: a model that a run has trained
model_argument.py  the argument MODEL of the command line: a dotted name, or RECIPE#student
"""
