"""A recipe: a YAML file, a preset and `--set` changes, checked and made the objects that Python users write."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from compresskit import nodes
from compresskit.distill.cache.options import CacheOptions
from compresskit.distill.precision import Precision
from compresskit.distill.spec.address import PREVIOUS, STUDENT, TEACHER, split_model
from compresskit.distill.spec.stage import Stage
from compresskit.errors import RecipeError, close_names
from compresskit.recipe.reading import overrides as changes_by_path
from compresskit.recipe.reading import yaml
from compresskit.recipe.reading.locations import Places
from compresskit.recipe.reading.shipped import find_recipe
from compresskit.recipe.reading.stage_nodes import describe_stages, parse_stages

DEFAULT_PRESET = "quick"


_DEFAULTS: dict[str, Any] = {
    "name": None,
    "seed": 0,
    "precision": "fp32",
    "compile": False,
    "memory_format": "contiguous",
    "cache": None,
    "teacher": None,
    "student": None,
    "views": None,
    "data": None,
    "pretrain": None,
    "stages": None,
    "control": False,
    "evaluate": None,
    "presets": None,
}


_DATA_DEFAULTS: dict[str, Any] = {"train": None, "val": None, "test": None, "batch_size": 16, "workers": 0}


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a run needs to know. Models, data and evaluation are nodes still; stages are the engine's own objects."""

    name: str
    seed: int
    precision: Precision
    """`precision`, `compile` and `memory_format`."""
    cache: str | Mapping[str, Any] | None
    """As `ProgressiveDistiller` takes it."""
    teachers: Mapping[str, Mapping[str, Any]]
    """Nodes by name, each with `weights` where they are loaded; a teacher without a name is called teacher."""
    student: Mapping[str, Any]
    views: Mapping[str, Mapping[str, Any]]
    """For a model's name, the node of what it is given of a batch's inputs."""
    data: Mapping[str, Any]
    """Nodes `train`, `val` and `test`, numbers `batch_size` and `workers`."""
    pretrain: Mapping[str, tuple[Stage, ...]]
    """The teachers' own stages, by name."""
    stages: tuple[Stage, ...]
    control: bool
    """Whether an equal student is trained on the supervised terms alone, to compare with."""
    evaluate: Mapping[str, Any] | None
    preset: str | None = None
    presets: tuple[str, ...] = ()
    """All that the file has."""
    places: Places = field(default_factory=Places, repr=False, compare=False)
    """Where each part was written, for messages."""

    def resolved(self) -> dict[str, Any]:
        """The recipe as plain data, with all defaults, curricula and presets written out; a recipe again."""
        return {
            "name": self.name,
            "seed": self.seed,
            **self.precision.to_dict(),
            "cache": dict(self.cache) if isinstance(self.cache, Mapping) else self.cache,
            "teacher": _unnamed({name: dict(node) for name, node in self.teachers.items()}),
            "student": dict(self.student),
            "views": {name: dict(node) for name, node in self.views.items()} or None,
            "data": dict(self.data),
            "pretrain": _unnamed({name: describe_stages(stages) for name, stages in self.pretrain.items()}),
            "stages": describe_stages(self.stages),
            "control": self.control,
            "evaluate": None if self.evaluate is None else dict(self.evaluate),
        }


def load_recipe(
    recipe: str | Path, preset: str | None = None, overrides: Iterable[str] | Mapping[str, Any] = ()
) -> Recipe:
    """Read a recipe and check all of it that can be checked without building anything.

    Args:
        recipe: A file, or the name of a shipped recipe.
        preset: A name from its `presets`; None takes `quick` where there is one.
        overrides: Changes on top of the preset: `"stages.1.steps=50"` as on the command line, or `{path: value}`.

    Raises:
        RecipeError: The recipe cannot be understood; the message tells the file, the line, what was found and the
            nearest right answer.
    """
    path = find_recipe(recipe)
    document = yaml.read(path)
    if not isinstance(document.data, dict) or not document.data:
        raise RecipeError(f"{path}: a recipe is a mapping with the keys student, data and stages; this file is not")
    places = Places.of(document)
    with places.located(always=True):
        for key in document.data:
            if key not in _DEFAULTS:
                raise RecipeError(f"{key}: unknown key{close_names(key, _DEFAULTS)}")
        preset, changes = _preset_changes(document, preset)
    if isinstance(overrides, Mapping):
        changes += [(f"override {path}", path, value) for path, value in overrides.items()]
    else:
        changes += [(f"--set {text}", *changes_by_path.parse(text)) for text in overrides]
    tree = changes_by_path.apply(document.data, changes, _DEFAULTS)
    for source, changed, value in changes:
        places.move(changed, value, source)
    with places.located(always=True):
        parsed = _recipe(tree, path.stem, places)
    return replace(parsed, preset=preset, presets=tuple(document.data.get("presets") or ()))


def _preset_changes(document: yaml.Document, preset: str | None) -> tuple[str | None, list[tuple[str, str, Any]]]:
    """The preset that is meant, and its changes with where each is written."""
    presets = document.data.get("presets")
    presets = {} if presets is None else presets
    if not isinstance(presets, dict) or not all(isinstance(changes, dict | None) for changes in presets.values()):
        raise RecipeError(
            "presets must be a mapping of names to mappings of paths, such as {quick: {stages.0.steps: 50}}"
        )
    if preset is None:
        preset = DEFAULT_PRESET if DEFAULT_PRESET in presets else None
    elif preset not in presets:
        raise RecipeError(f"presets: no preset {preset!r}{close_names(preset, presets)}")
    return preset, [] if preset is None else _changes_of(preset, presets, document)


def _changes_of(preset: str, presets: Mapping[str, Any], document: yaml.Document) -> list[tuple[str, str, Any]]:
    """A preset's changes, those of the presets that it extends first, with where each is written."""
    chain: list[str] = []
    name: Any = preset
    while name is not None:
        if name not in presets:
            raise RecipeError(f"presets.{chain[-1]}.extends: no preset {name!r}{close_names(str(name), presets)}")
        if name in chain:
            raise RecipeError(f"presets.{name}.extends: {' extends '.join([*chain, name])}, without end")
        chain.append(name)
        name = (presets[name] or {}).get("extends")
    return [
        (f"{document.source}, line {document.lines[f'presets.{name}.{path}']}", path, value)
        for name in reversed(chain)
        for path, value in (presets[name] or {}).items()
        if path != "extends"
    ]


def _recipe(tree: dict[str, Any], stem: str, places: Places) -> Recipe:
    values = {**_DEFAULTS, **tree}
    recipe = Recipe(
        name=_name(values["name"] if values["name"] is not None else stem),
        seed=_whole(values["seed"], "seed", 0),
        precision=Precision(values["precision"], values["compile"], values["memory_format"]),
        cache=values["cache"],
        teachers=_teachers(values["teacher"]),
        student=_model(values["student"], "student"),
        views=_views(values["views"]),
        data=_data(values["data"]),
        pretrain=_pretrain(values["pretrain"]),
        stages=parse_stages(values["stages"], "stages"),
        control=_choice(values["control"], "control", (True, False)),
        evaluate=values["evaluate"],
        places=places,
    )
    CacheOptions.of(recipe.cache)
    if recipe.evaluate is not None:
        nodes.check(recipe.evaluate, kind="evaluation", where="evaluate", dataset=None)
    _check_teachers(recipe)
    return recipe


def _check_teachers(recipe: Recipe) -> None:
    """Matches need a teacher, a teacher's own stages have none, and a control needs something to learn from."""
    if not recipe.teachers:
        _check_no_matches(recipe.stages, "stages", "this recipe has none")
    for name, stages in recipe.pretrain.items():
        where = "pretrain" if name == TEACHER else f"pretrain.{name}"
        if not recipe.teachers:
            raise RecipeError(f"{where}: these are the teacher's own stages, and this recipe has no teacher")
        if name not in recipe.teachers:
            raise RecipeError(f"{where}: there is no teacher {name!r}{close_names(name, recipe.teachers)}")
        _check_no_matches(stages, where, "here the teacher itself learns")
    own = [task for stage in recipe.stages for task in stage.tasks if split_model(task.student)[0] in ("", STUDENT)]
    if recipe.control and not own:
        raise RecipeError(
            "control: no stage has tasks of the student, so a student alone would have nothing to learn from"
        )
    if recipe.control and not recipe.teachers:
        raise RecipeError("control: this recipe has no teacher, so its student is alone already")


def _check_no_matches(stages: tuple[Stage, ...], where: str, why: str) -> None:
    for index, stage in enumerate(stages):
        if any(split_model(text)[0] != PREVIOUS for match in stage.matches for text in match.teachers):
            raise RecipeError(f"{where}[{index}]: matches need a teacher, and {why}; use tasks")


def _teachers(data: Any) -> dict[str, Mapping[str, Any]]:
    """The nodes by name: one node, or a mapping of names to nodes."""
    if data is None:
        return {}
    if not isinstance(data, Mapping) or "_target_" in data or not all(isinstance(v, Mapping) for v in data.values()):
        return {TEACHER: _model(data, "teacher")}
    return {name: _model(node, f"teacher.{name}") for name, node in data.items()}


def _pretrain(data: Any) -> dict[str, tuple[Stage, ...]]:
    """The teachers' own stages: those of the one teacher, or a mapping of teachers' names to stages."""
    if not data:
        return {}
    if isinstance(data, Mapping) and "_target_" not in data:
        return {name: parse_stages(stages, f"pretrain.{name}") for name, stages in data.items()}
    return {TEACHER: parse_stages(data, "pretrain")}


def _views(data: Any) -> dict[str, Mapping[str, Any]]:
    if data is None:
        return {}
    if not isinstance(data, Mapping):
        raise RecipeError(f"views must be a mapping of models' names to nodes, got {data!r}")
    for name, node in data.items():
        nodes.check(node, kind="callable", where=f"views.{name}")
    return dict(data)


def _unnamed(by_name: dict[str, Any]) -> Any:
    """As a recipe writes it: what belongs to the only teacher without its name."""
    return by_name.get(TEACHER, by_name) if len(by_name) < 2 and TEACHER in by_name else by_name or None


def _model(node: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(node, Mapping):
        raise RecipeError(f"{where} must be a node such as {{_target_: package.module.Name}}, got {node!r}")
    if not isinstance(node.get("weights"), str | None):
        raise RecipeError(f"{where}: weights must be a path, got {node['weights']!r}")
    nodes.check({key: value for key, value in node.items() if key != "weights"}, kind="module", where=where)
    return node


def _data(data: Any) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise RecipeError(f"data must be a mapping with a node under 'train', got {data!r}")
    for key in data:
        if key not in _DATA_DEFAULTS:
            raise RecipeError(f"data: unknown key {key!r}{close_names(key, _DATA_DEFAULTS)}")
    if "train" not in data:
        raise RecipeError("data needs the key 'train'")
    values = {**_DATA_DEFAULTS, **data}
    _whole(values["batch_size"], "data: batch_size", 1)
    _whole(values["workers"], "data: workers", 0)
    for split in ("train", "val", "test"):
        if split == "train" or values[split] is not None:
            nodes.check(values[split], kind="dataset", where=f"data.{split}")
    return values


def _name(name: Any) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name):
        raise RecipeError(f"name: it names the run's folder, so letters, digits, '-', '_' and '.', got {name!r}")
    return name


def _whole(value: Any, where: str, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise RecipeError(f"{where} must be a whole number of at least {least}, got {value!r}")
    return value


def _choice(value: Any, where: str, choices: tuple[Any, ...]) -> Any:
    if not any(value is choice or (isinstance(value, str) and value == choice) for choice in choices):
        words = " or ".join(str(choice).lower() for choice in choices)
        raise RecipeError(f"{where} must be {words}, got {value!r}")
    return value
