"""The commands of the command line, one per file: arguments and a call. `compresskit.cli` adds them and maps errors.

run.py       compresskit run: train and compare by a recipe
evaluate.py  compresskit evaluate: measure trained weights beside other methods
export.py    compresskit export: a trained model as ONNX or .pt2
profile.py   compresskit profile: the cost of models
terminal.py  printing of results, and completion of arguments
"""
