"""The commands of the command line: arguments and a call each. `compresskit.cli` adds them and maps errors.

- `run`: `compresskit run`, train and compare by a recipe.
- `evaluate`: `compresskit evaluate`, measure trained weights beside other methods.
- `export`: `compresskit export`, write a trained model as ONNX or `.pt2`.
- `profile`: `compresskit profile`, measure the cost of models.
- `terminal`: printing of results, and completion of arguments.
"""
