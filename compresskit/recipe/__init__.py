"""Recipes: an experiment as a YAML file, from its text to the table and the card at its end.

Rooms and files, in reading order; each room imports only from those above it. The arrow marks the path of a recipe from
its file to its objects: `load_recipe`, then `build_components`.

- `terminal`: notes on standard error, lists in words.
- `run_files`: names of the files in a run's folder, and the folders of its parts.
- `reading/`: from YAML, presets and `--set` to a checked `Recipe`. Nothing is built, and no other file is opened.
    - → `load`: `load_recipe` and `Recipe`; the steps in order, and the checks of the top-level keys.
    - → `shipped`: recipes and weights that come with packages, by name.
    - → `yaml`: plain data and line numbers from YAML, and back.
    - → `overrides`: changes by path, from presets and `--set`.
    - → `locations`: `SourceMap`, the origin of each part, for the messages of errors.
    - → `stage_nodes`: stages, from plain data to `Stage`, `Match` and `Task`, and back.
- `building/`: from a `Recipe` to data, models and evaluation; from the folders of runs to models.
    - → `components`: `build_components`, the data, models and evaluation of a run; the stages of the control.
    - `closed_form`: modules that are solved on the training data instead of being trained.
    - `trained_model`: `load_model`, a model that a run has trained.
    - `model_argument`: the argument MODEL of the command line, a dotted name or RECIPE#student.
- `scoring/`: from trained models to figures, differences and a card, by a `compresskit.Evaluation`.
    - `metric`: name, unit and direction of a figure, and its text.
    - `measure`: one model, or all models of a run, measured by an evaluation; the rows of a run.
    - `differences`: the distilled student minus its rivals, sample by sample.
    - `tables`: the table of a run's rows, with the best figures in bold.
    - `card`: `card.md`, the student on a page.
    - `bootstrap`: intervals of a mean.
    - `method_scores`: the figures of several methods under several conditions.
    - `evaluate`: the work of `compresskit evaluate`.
- `running/`: a whole run, in a folder, resumed after a stop.
    - `run`: `run_recipe`, which builds, trains each part, measures and writes.
    - `finished`: whether a folder holds a finished run, with all its files whole.
    - `folder`: the choice of the folder, and the check that it holds this recipe.
    - `resume_command`: the command that resumes a stopped run.
    - `seeds`: `run_seeds`, one recipe under several seeds.
    - `export`: `export_model`, a run's model as ONNX or `.pt2`.

The path goes through files outside of the rooms, too:

- → `compresskit.nodes.allowed`: the names and arguments that a recipe may use.
- → `compresskit.nodes.names`: the object of a dotted name, if it may be used.
- → `compresskit.nodes.build`: `{_target_: …}`, checked when the recipe is read and called when it is built.
- → `compresskit.signature`: the options of a node, checked before the call.
- → `compresskit.files`: weights that a model is loaded with.

Three files stand by it wherever they are needed: `compresskit.errors`, `compresskit.randomness` (the seed under which a
model is built) and `compresskit.installation` (the import path without the current folder).

The objects at its end are those that Python users write, and check themselves: stages and terms (`distill.spec`),
curricula, losses, precision, the options of the cache, evaluations, and whatever nodes name in other packages.
"""
