"""Recipes: an experiment as a YAML file, from its text to the table and the card at its end.

Four rooms, each of which imports only from those above it:

    reading/    YAML, presets and `--set` to a checked `Recipe`
    building/   a `Recipe` to data, models and evaluation
    scoring/    trained models to tables, differences and a card
    running/    the whole run, in a folder, resumed after a stop

and `terminal.py`, for notes on standard error and tables as text.

The path of a recipe from its file to its objects, in reading order:

    reading/load.py          load_recipe: the steps in order, and the checks of the top-level keys
    reading/shipped.py       the file of a shipped name
    reading/yaml.py          the file as plain data, and the line of each value
    reading/overrides.py     presets and `--set`: changes by path
    reading/locations.py     SourceMap: the file and line in front of an error's message
    reading/stage_nodes.py   stages and curricula to `Stage` objects
    compresskit/nodes.py     `{_target_: …}`: the check of a node, and later the call
    compresskit/signature.py the check of a node's options before the call
    building/components.py   build_components: datasets, teachers, student, views, evaluation
    building/weights.py      weights from a file
    building/closed_form.py  modules that are solved on the training data
"""
