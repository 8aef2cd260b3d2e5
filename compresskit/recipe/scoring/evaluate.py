"""A recipe's evaluation by itself: trained weights beside other methods, on the recipe's test data or on other data."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compresskit import nodes
from compresskit.distill.distiller import chosen_device
from compresskit.distill.processes import Processes
from compresskit.distill.session.folder_lock import locked_folder
from compresskit.distill.spec.address import STUDENT, TEACHER
from compresskit.environment import environment
from compresskit.errors import RecipeError, close_names, path_text, within
from compresskit.evaluation import Evaluation, as_evaluation, has_own
from compresskit.files import write_json, write_text
from compresskit.randomness import own_randomness
from compresskit.recipe.building.closed_form import fit_to_data
from compresskit.recipe.building.components import Components, build_components, model_path
from compresskit.recipe.reading.load import Recipe, load_recipe
from compresskit.recipe.reading.overrides import parse
from compresskit.recipe.run_files import (
    EVALUATION_FILE,
    RECIPE_FILE,
    WEIGHTS_FILE,
    part_folder,
    pretraining_of,
    recipe_damage,
)
from compresskit.recipe.scoring.measure import measure_model
from compresskit.recipe.scoring.method_scores import MethodScores, Score
from compresskit.recipe.scoring.metric import metrics_by_name
from compresskit.recipe.terminal import say
from compresskit.restore import preserve_state
from compresskit.signature import option_names

EVALUATIONS = Path("evaluations")


def evaluate_recipe(
    recipe: str | Path,
    weights: str | Path | None = None,
    *,
    data: str | Path | None = None,
    methods: Sequence[str] | None = None,
    limit: int | None = None,
    preset: str | None = None,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    out: str | Path | None = None,
    device: str = "auto",
) -> MethodScores:
    """Measure a trained student beside other methods, under every condition of the recipe's evaluation.

    Modules that are solved in closed form are fitted to `data.train`, as in a run.

    Args:
        recipe: A file, the name of a shipped recipe, or the folder of a run, which has weights of its own.
        weights: File of the student's weights. Not needed if `methods` leave the student out.
        data: Value for the first option of `data.test`, which is its folder as a rule.
        methods: Names among `student`, the teachers, and the evaluation's baselines and methods. The others are
            compared with the first. None takes the student and the baselines.
        limit: Number of samples to measure on, from the first; the test data need an option `limit`.
        preset: A name from the recipe's `presets`; None takes `quick` if there is one.
        overrides: Changes on top of the preset, as in `run_recipe`.
        out: Folder for tables and pictures; None is `evaluations/NAME`, with the next free number behind it.
        device: "auto" takes CUDA where there is a device; else a torch device name.

    Returns:
        All scores. The folder holds them as `evaluation.md` and `evaluation.json`, with pictures if the evaluation
        draws any.

    Raises:
        CompressKitError: The recipe, data, weights or folder cannot be used, or there is no such method.
    """
    changes = dict(overrides) if isinstance(overrides, Mapping) else dict(parse(text) for text in overrides)
    path = Path(recipe)
    if (path / RECIPE_FILE).is_file():
        if damage := recipe_damage(path):
            say(damage)
        changes = _weights_of_run(path) | changes
        recipe = path / RECIPE_FILE
    if weights is not None:
        changes["student.weights"] = str(weights)
    loaded = load_recipe(recipe, preset, changes)
    with loaded.sources.with_locations():
        loaded = load_recipe(recipe, preset, changes | _data_changes(loaded, data, limit))
    with loaded.sources.with_locations():
        folder = _free_folder(loaded.name, out)
        models, components = _models(loaded, methods)
        place = chosen_device(device)
        for model in models.values():
            model.to(place)
        with locked_folder(folder, Processes.now()):
            return _measure(loaded, components, models, folder, place)


def _weights_of_run(folder: Path) -> dict[str, Any]:
    """Return the files of a run's weights, as changes to its recipe.

    A teacher that was trained further has weights of its own.
    """
    files = {"student.weights": folder / WEIGHTS_FILE}
    for name in load_recipe(folder / RECIPE_FILE).teachers:
        last, pretrained = folder / f"{name}.safetensors", part_folder(folder, pretraining_of(name)) / WEIGHTS_FILE
        files[f"{path_text(model_path(name))}.weights"] = last if name != TEACHER and last.is_file() else pretrained
    return {place: str(file) for place, file in files.items() if file.is_file()}


def _data_changes(recipe: Recipe, data: str | Path | None, limit: int | None) -> dict[str, Any]:
    """Return the changes to the recipe that set another folder and a limit."""
    node = recipe.data["test"]
    if data is None and limit is None:
        return {}
    if node is None:
        raise RecipeError(
            "data: this recipe has no 'test', so there is nothing that --data and --limit could change", path=("data",)
        )
    options = option_names(nodes.find(node["_target_"], kind="dataset")) or []
    if limit is not None and "limit" not in options:
        raise RecipeError(
            f"data.test: {node['_target_']} has no option 'limit', so --limit cannot be used", path=("data", "test")
        )
    if data is not None and not options:
        raise RecipeError(f"data.test: {node['_target_']} has no option that --data could be", path=("data", "test"))
    changes = {} if data is None else {f"data.test.{options[0]}": str(data)}
    return changes if limit is None else changes | {"data.test.limit": limit}


def _models(recipe: Recipe, methods: Sequence[str] | None) -> tuple[dict[str, nn.Module], Components]:
    """Return the models to compare, by name, fitted and ready, and the other components of the recipe."""
    teachers = {name: node for name, node in recipe.teachers.items() if name in (methods or ())}
    components = build_components(replace(recipe, teachers=teachers))
    builders = _builders(recipe, components)
    names = list(dict.fromkeys([STUDENT, *components.baselines] if methods is None else methods))
    trained = {STUDENT, *recipe.teachers}
    for name in names:
        if name not in builders:
            raise RecipeError(f"--methods: there is no method {name!r}{close_names(name, builders)}")
        if name in trained and name not in components.loaded:
            place = path_text(model_path(name))
            option = "--weights FILE" if name == STUDENT else f"--set {place}.weights=FILE"
            raise RecipeError(
                f"{place}: it has no weights; add {option}, or leave it out of --methods", path=model_path(name)
            )
    models = {name: builders[name]() for name in names}
    components.baselines = {name: model for name, model in models.items() if name not in trained}
    components.loaded = frozenset(trained)  # those that are not compared need not be fitted
    fit_to_data(components, recipe.seed)
    return models, components


def _builders(recipe: Recipe, components: Components) -> dict[str, Callable[[], nn.Module]]:
    """Return a function for each method that can be named, which returns its model."""
    builders: dict[str, Callable[[], nn.Module]] = {STUDENT: lambda: components.viewed(STUDENT, components.student)}
    builders |= {name: lambda name=name: components.viewed(name, components.teachers[name]) for name in recipe.teachers}
    builders |= {name: lambda model=model: model for name, model in components.baselines.items()}
    return builders | dict(_evaluation(components).methods)


def _evaluation(components: Components) -> Evaluation:
    if components.evaluation is None:
        raise RecipeError("evaluate: this recipe has no evaluation", path=("evaluate",))
    return components.evaluation


def _measure(
    recipe: Recipe, components: Components, models: Mapping[str, nn.Module], folder: Path, device: torch.device
) -> MethodScores:
    """Measure every model under every condition and write the folder. The JSON file grows with each score."""
    conditions = _conditions(_evaluation(components))
    scores: list[Score] = []
    result = MethodScores(recipe.name, scores, list(getattr(components.test, "names", ())), folder)
    setting = {"recipe": recipe.resolved(), "environment": environment(device)}
    for condition, evaluation in conditions.items():
        for method, model in models.items():
            say(f"evaluating {method}{f', {condition}' * bool(condition)}")
            scores.append(_score(condition, method, model, evaluation, recipe.seed))
            write_json(folder / EVALUATION_FILE, result.to_dict() | setting)
    write_text(folder / "evaluation.md", result.markdown())
    first = next(iter(conditions.values()))
    if has_own(first, "draw_worst"):
        say("drawing where the first method is worst")
        with preserve_state(*models.values()), own_randomness(recipe.seed), torch.no_grad():
            first.draw_worst(models, folder / "worst.png")
    return result


def _conditions(evaluation: Evaluation) -> dict[str, Evaluation]:
    """Return the evaluations under all conditions, by name."""
    conditions = {}
    for name, condition in evaluation.conditions().items():
        with within(f"evaluate: conditions()[{name!r}]"):
            conditions[name] = as_evaluation(condition)
    return conditions


def _score(condition: str, method: str, model: nn.Module, evaluation: Evaluation, seed: int) -> Score:
    means, per_sample = measure_model(model, evaluation, seed)
    values = per_sample or {name: [mean] for name, mean in means.items()}
    return Score(condition, method, values, metrics_by_name(values, evaluation.units, evaluation.lower_is_better))


def _free_folder(name: str, out: str | Path | None) -> Path:
    """Return the folder to write to, which is empty or absent. Nothing is created."""
    if out is None:
        names = (name if number == 1 else f"{name}-{number}" for number in count(1))
        return next(EVALUATIONS / free for free in names if not (EVALUATIONS / free).exists())
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RecipeError(f"{folder} is used already; give another --out")
    return folder
