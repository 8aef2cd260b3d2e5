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
from compresskit.distill.spec.address import STUDENT, TEACHER
from compresskit.environment import environment
from compresskit.errors import RecipeError, close_names
from compresskit.files import write_json, write_text
from compresskit.randomness import own_randomness
from compresskit.recipe.building.closed_form import fit_to_data
from compresskit.recipe.building.components import Parts, build_parts, teacher_place
from compresskit.recipe.reading.load import Recipe, load_recipe
from compresskit.recipe.reading.overrides import parse
from compresskit.recipe.running.folder import RECIPE_FILE, say
from compresskit.recipe.scoring.comparison import Comparison, Score
from compresskit.recipe.scoring.metric import Metric
from compresskit.restore import preserve_state
from compresskit.signature import option_names

EVALUATIONS = Path("evaluations")


WEIGHTS_FILE = "student.safetensors"


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
) -> Comparison:
    """Measure a trained student beside other methods, under every condition that the recipe's evaluation has.

    What learns in closed form is fitted to `data.train`, as in a run.

    Args:
        recipe: A file, the name of a shipped recipe, or a run's folder, which has its own weights.
        weights: Of the student. Not needed where `methods` leave it out.
        data: Takes the place of the first option of `data.test`, as a rule its folder.
        methods: Names among `student`, the teachers, and what the evaluation compares with. The first is what the
            others are compared with. None: the student and the evaluation's baselines.
        limit: Only the first so many samples, where the test data has an option `limit`.
        preset: A name from its `presets`; None takes `quick` where there is one.
        overrides: Changes on top of the preset, as in `run_recipe`.
        out: The folder for tables and pictures; None is `evaluations/NAME`, with the next free number behind it.
        device: "auto" takes CUDA where there is a device; else a torch device name.

    Returns:
        What was found; the folder has it as `evaluation.md` and `evaluation.json`, and pictures where the evaluation
        draws them.

    Raises:
        CompressKitError: The recipe, data, weights or folder cannot be used, or there is no such method.
    """
    changes = dict(overrides) if isinstance(overrides, Mapping) else dict(parse(text) for text in overrides)
    path = Path(recipe)
    if (path / RECIPE_FILE).is_file():
        changes = _weights_of_run(path) | changes
        recipe = path / RECIPE_FILE
    if weights is not None:
        changes["student.weights"] = str(weights)
    loaded = load_recipe(recipe, preset, changes)
    with loaded.places.located():
        loaded = load_recipe(recipe, preset, changes | _data_changes(loaded, data, limit))
    with loaded.places.located():
        folder = _free_folder(loaded.name, out)
        models, parts = _models(loaded, methods)
        place = chosen_device(device)
        for model in models.values():
            model.to(place)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecipeError(f"{folder} cannot be made a folder: {error.strerror}") from None
        return _compare(loaded, parts, models, folder, place)


def _weights_of_run(folder: Path) -> dict[str, Any]:
    """Where a run's folder keeps what it trained, as changes to its recipe. What learned on goes first."""
    kept = {"student.weights": folder / WEIGHTS_FILE, "teacher.weights": folder / TEACHER / WEIGHTS_FILE}
    for name in load_recipe(folder / RECIPE_FILE).teachers:
        if name != TEACHER:
            learned, pretrained = folder / f"{name}.safetensors", folder / f"teacher-{name}" / WEIGHTS_FILE
            kept[f"{teacher_place(name)}.weights"] = learned if learned.is_file() else pretrained
    return {place: str(file) for place, file in kept.items() if file.is_file()}


def _data_changes(recipe: Recipe, data: str | Path | None, limit: int | None) -> dict[str, Any]:
    """The changes to the recipe that another folder and a limit amount to."""
    node = recipe.data["test"]
    if data is None and limit is None:
        return {}
    if node is None:
        raise RecipeError("data: this recipe has no 'test', so there is nothing that --data and --limit could change")
    names = option_names(nodes.find(node["_target_"], where="data.test", kind="dataset")) or []
    if limit is not None and "limit" not in names:
        raise RecipeError(f"data.test: {node['_target_']} has no option 'limit', so --limit cannot be used")
    if data is not None and not names:
        raise RecipeError(f"data.test: {node['_target_']} has no option that --data could be")
    changed = {} if data is None else {f"data.test.{names[0]}": str(data)}
    return changed if limit is None else changed | {"data.test.limit": limit}


def _models(recipe: Recipe, methods: Sequence[str] | None) -> tuple[dict[str, nn.Module], Parts]:
    """What is to be compared, by name, fitted and ready; and all else that the recipe builds."""
    if recipe.evaluate is None:
        raise RecipeError("evaluate: this recipe has no evaluation")
    teachers = {name: node for name, node in recipe.teachers.items() if name in (methods or ())}
    parts = build_parts(replace(recipe, teachers=teachers))
    known = _known(recipe, parts)
    chosen = list(dict.fromkeys([STUDENT, *parts.baselines] if methods is None else methods))
    for name in chosen:
        if name not in known:
            raise RecipeError(f"--methods: there is no method {name!r}{close_names(name, known)}")
        if name in (STUDENT, *recipe.teachers) and name not in parts.loaded:
            place = STUDENT if name == STUDENT else teacher_place(name)
            how = "--weights FILE" if name == STUDENT else f"--set {place}.weights=FILE"
            raise RecipeError(
                f"{place}: it has no weights to be evaluated with; add {how}, or leave it out by --methods"
            )
    models = {name: known[name]() for name in chosen}
    trained = {STUDENT, *recipe.teachers}
    parts.baselines = {name: model for name, model in models.items() if name not in trained}
    parts.loaded = frozenset(trained)  # those that are not compared need not be fitted
    fit_to_data(parts, recipe.seed)
    return models, parts


def _known(recipe: Recipe, parts: Parts) -> dict[str, Callable[[], nn.Module]]:
    """What makes or holds each method that can be named."""
    known: dict[str, Callable[[], nn.Module]] = {STUDENT: lambda: parts.viewed(STUDENT, parts.student)}
    known |= {name: lambda name=name: parts.viewed(name, parts.teachers[name]) for name in recipe.teachers}
    known |= {name: lambda model=model: model for name, model in parts.baselines.items()}
    return known | dict(getattr(parts.evaluation, "methods", {}))


def _compare(
    recipe: Recipe, parts: Parts, models: Mapping[str, nn.Module], folder: Path, device: torch.device
) -> Comparison:
    conditions = parts.evaluation.conditions() if hasattr(parts.evaluation, "conditions") else {"": parts.evaluation}
    names = list(getattr(parts.test, "names", ()))
    scores: list[Score] = []
    result = Comparison(recipe.name, scores, names, folder)
    setting = {"recipe": recipe.resolved(), "environment": environment(device)}
    for condition, evaluation in conditions.items():
        for name, model in models.items():
            say(f"evaluating {name}{f', {condition}' * bool(condition)}")
            with preserve_state(model), own_randomness(recipe.seed), torch.no_grad():
                scores.append(Score(condition, name, *_measured(model.eval(), evaluation)))
            write_json(folder / "evaluation.json", result.to_dict() | setting)
    write_text(folder / "evaluation.md", result.markdown())
    first = next(iter(conditions.values()))
    if hasattr(first, "draw_worst"):
        say("drawing where the first method is worst")
        with preserve_state(*models.values()), own_randomness(recipe.seed), torch.no_grad():
            first.draw_worst(models, folder / "worst.png")
    return result


def _measured(model: nn.Module, evaluation: Any) -> tuple[dict[str, list[float]], list[Metric]]:
    """Each metric of each sample, or its mean where there is no more, and what kinds of figures they are."""
    if hasattr(evaluation, "per_sample"):
        figures = {name: [float(value) for value in values] for name, values in evaluation.per_sample(model).items()}
    else:
        figures = {name: [float(value)] for name, value in evaluation(model).items()}
    units, lower = getattr(evaluation, "units", {}), getattr(evaluation, "lower_is_better", ())
    lower = [lower] if isinstance(lower, str) else lower
    return figures, [Metric(name, units.get(name, ""), name in lower) for name in figures]


def _free_folder(name: str, out: str | Path | None) -> Path:
    """The folder to write to, which is empty or not there. Nothing is created."""
    if out is None:
        names = (name if number == 1 else f"{name}-{number}" for number in count(1))
        return next(EVALUATIONS / free for free in names if not (EVALUATIONS / free).exists())
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RecipeError(f"{folder} is used already; give another --out")
    return folder
