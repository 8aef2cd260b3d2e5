"""Recipes: an experiment as a YAML file, from its text to the table and the card at its end.

Rooms, in reading order; each imports only from those above it:

- `terminal`: notes on standard error, tables as text.
- `reading`: YAML, presets and `--set` to a checked `Recipe`.
- `building`: a `Recipe` to data, models and evaluation.
- `scoring`: trained models to tables, differences and a card.
- `running`: a whole run, in a folder, resumed after a stop.

The path of a recipe from its file to its objects, in reading order:

1. `reading.load`: `load_recipe`, the steps in order, and the checks of the top-level keys.
2. `reading.shipped`: the file of a shipped name.
3. `reading.yaml`: the file as plain data, and the line of each value.
4. `reading.overrides`: presets and `--set`, changes by path.
5. `reading.locations`: the file and line in front of an error's message.
6. `reading.stage_nodes`: stages and curricula to `Stage` objects.
7. `compresskit.nodes`: `{_target_: …}`, the check of a node and later its call.
8. `compresskit.signature`: the check of a node's options before the call.
9. `building.components`: `build_components`, datasets, teachers, student, views and evaluation.
10. `building.weights`: weights from a file.
11. `building.closed_form`: modules that are solved on the training data.
"""
