"""A recipe: a YAML file, a preset and `--set` changes, checked and turned into the objects that Python users write."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from compresskit import nodes
from compresskit.distill.cache.options import CacheOptions
from compresskit.distill.precision import Precision
from compresskit.distill.spec.address import PREVIOUS, STUDENT, TEACHER, split_model
from compresskit.distill.spec.inherit import Inherit
from compresskit.distill.spec.match import Task
from compresskit.distill.spec.stage import Stage
from compresskit.errors import KeyPath, RecipeError, at, close_names
from compresskit.recipe.reading import overrides as changes_by_path
from compresskit.recipe.reading import yaml
from compresskit.recipe.reading.locations import SourceMap
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
    "inherit": None,
    "data": None,
    "pretrain": None,
    "stages": None,
    "control": False,
    "evaluate": None,
    "presets": None,
}


_DATA_DEFAULTS: dict[str, Any] = {"train": None, "val": None, "test": None, "batch_size": 16, "workers": 0}

_DATA_KEYS = (*_DATA_DEFAULTS, "collate")


@dataclass(frozen=True, slots=True)
class Recipe:
    """A checked recipe. Models, data and evaluation are still nodes; stages are the engine's own objects."""

    name: str
    seed: int
    precision: Precision
    """`precision`, `compile` and `memory_format`."""
    cache: str | Mapping[str, Any] | None
    """The option `cache` of `ProgressiveDistiller`."""
    teachers: Mapping[str, Mapping[str, Any]]
    """Nodes by name, each with `weights` where they are loaded; a teacher without a name is called teacher."""
    student: Mapping[str, Any]
    views: Mapping[str, Mapping[str, Any]]
    """Nodes by model name: each builds the function that makes the model's inputs of a batch's inputs."""
    inherit: Inherit | None
    """The teacher whose weights, pruned, the student starts from."""
    data: Mapping[str, Any]
    """Nodes `train`, `val` and `test`, numbers `batch_size` and `workers`, and maybe `collate`, a node or a dotted name
    of a function that makes a batch of a list of samples."""
    pretrain: Mapping[str, tuple[Stage, ...]]
    """The teachers' own stages, by name."""
    stages: tuple[Stage, ...]
    control: bool
    """True trains an equal student on the supervised terms alone, to compare with; where the student inherits, one
    from its own initial weights and one from the inherited weights."""
    evaluate: Mapping[str, Any] | None
    preset: str | None = None
    presets: tuple[str, ...] = ()
    """Names of all presets in the file."""
    sources: SourceMap = field(default_factory=SourceMap, repr=False, compare=False)
    """The line of each part, for messages."""

    def resolved(self) -> dict[str, Any]:
        """Return the recipe as plain data, with all defaults, curricula and presets written out; a recipe again."""
        return {
            "name": self.name,
            "seed": self.seed,
            **self.precision.to_dict(),
            "cache": dict(self.cache) if isinstance(self.cache, Mapping) else self.cache,
            "teacher": _unnamed({name: dict(node) for name, node in self.teachers.items()}),
            "student": dict(self.student),
            "views": {name: dict(node) for name, node in self.views.items()} or None,
            "inherit": None if self.inherit is None else self.inherit.to_node(),
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
        RecipeError: The recipe cannot be understood; the message names the file, the line, the mistake and the nearest
            right answer.
    """
    path = find_recipe(recipe)
    document = yaml.read(path)
    if not isinstance(document.data, dict) or not document.data:
        raise RecipeError(f"{path}: a recipe is a mapping with the keys student, data and stages; this file is not")
    sources = SourceMap.of(document)
    with sources.with_locations(always=True):
        for key in document.data:
            if key not in _DEFAULTS:
                raise RecipeError(f"{key}: unknown key{close_names(key, _DEFAULTS)}", path=(key,))
        preset, changes = _preset_changes(document, preset)
    if isinstance(overrides, Mapping):
        changes += [(f"override {path}", path, value) for path, value in overrides.items()]
    else:
        changes += [(f"--set {text}", *changes_by_path.parse(text)) for text in overrides]
    for origin, place, _ in changes:
        if place.partition(".")[0].partition("[")[0] == "presets":
            raise RecipeError(f"{origin}: presets cannot be changed; choose one with --preset, or set the values alone")
    tree = changes_by_path.apply(document.data, changes, _DEFAULTS, sources)
    with sources.with_locations(always=True):
        parsed = _recipe(tree, path.stem, sources)
    return replace(parsed, preset=preset, presets=tuple(document.data.get("presets") or ()))


def _preset_changes(document: yaml.Document, preset: str | None) -> tuple[str | None, list[tuple[str, str, Any]]]:
    """Return the name of the preset to use, and its changes, each with its origin."""
    presets = document.data.get("presets")
    presets = {} if presets is None else presets
    wrong = presets.items() if isinstance(presets, dict) else [(0, presets)]
    for name in (name for name, changes in wrong if not isinstance(changes, dict | None)):
        raise RecipeError(
            "presets must be a mapping of names to mappings of paths, such as {quick: {stages.0.steps: 50}}",
            path=("presets", name),
        )
    if preset is None:
        preset = DEFAULT_PRESET if DEFAULT_PRESET in presets else None
    elif preset not in presets:
        raise RecipeError(f"presets: no preset {preset!r}{close_names(preset, presets)}", path=("presets",))
    return preset, [] if preset is None else _changes_of(preset, presets, document)


def _changes_of(preset: str, presets: Mapping[str, Any], document: yaml.Document) -> list[tuple[str, str, Any]]:
    """Return a preset's changes, those of the presets that it extends first, each with its origin."""
    chain: list[str] = []
    name: Any = preset
    while name is not None:
        if not isinstance(name, str) or name not in presets:
            with at("presets", chain[-1], "extends"):
                raise RecipeError(f"no preset {name!r}{close_names(str(name), presets)}")
        if name in chain:
            with at("presets", name, "extends"):
                raise RecipeError(f"{' extends '.join([*chain, name])}, without end")
        chain.append(name)
        name = (presets[name] or {}).get("extends")
    return [
        (f"{document.source}, line {document.lines['presets', name, path]}", path, value)
        for name in reversed(chain)
        for path, value in (presets[name] or {}).items()
        if path != "extends"
    ]


def _recipe(tree: dict[str, Any], stem: str, sources: SourceMap) -> Recipe:
    values = {**_DEFAULTS, **tree}
    recipe = Recipe(
        name=_name(values["name"] if values["name"] is not None else stem),
        seed=_whole(values["seed"], "seed", 0),
        precision=Precision(values["precision"], values["compile"], values["memory_format"]),
        cache=values["cache"],
        teachers=_teachers(values["teacher"]),
        student=_model(values["student"], "student"),
        views=_views(values["views"]),
        inherit=_inherit(values["inherit"]),
        data=_data(values["data"]),
        pretrain=_pretrain(values["pretrain"]),
        stages=_stages(values["stages"]),
        control=_flag(values["control"], "control"),
        evaluate=values["evaluate"],
        sources=sources,
    )
    CacheOptions.of(recipe.cache)
    if recipe.evaluate is not None:
        with at("evaluate"):
            nodes.check(recipe.evaluate, kind="evaluation", dataset=None)
    _check_teachers(recipe)
    return recipe


def _check_teachers(recipe: Recipe) -> None:
    """Check that matches have a teacher, a teacher's own stages none, and a control something to learn from."""
    if recipe.inherit is not None and recipe.inherit.teacher not in recipe.teachers:
        name = recipe.inherit.teacher
        with at("inherit"):
            raise RecipeError(f"there is no teacher {name!r}{close_names(name, recipe.teachers)}")
    if not recipe.teachers:
        _check_no_matches(recipe.stages, ("stages",), "this recipe has none")
    for name, stages in recipe.pretrain.items():
        path = ("pretrain",) if name == TEACHER else ("pretrain", name)
        with at(*path):
            if not recipe.teachers:
                raise RecipeError("these are the teacher's own stages, and this recipe has no teacher")
            if name not in recipe.teachers:
                raise RecipeError(f"there is no teacher {name!r}{close_names(name, recipe.teachers)}")
        _check_no_matches(stages, path, "here the teacher itself learns")
    own = [task for stage in recipe.stages for task in stage.tasks if _of_student(task)]
    with at("control"):
        if recipe.control and not own:
            raise RecipeError("no stage has tasks of the student, so a student alone would have nothing to learn from")
        if recipe.control and not recipe.teachers:
            raise RecipeError("this recipe has no teacher, so its student is alone already")


def _check_no_matches(stages: tuple[Stage, ...], path: KeyPath, why: str) -> None:
    for index, stage in enumerate(stages):
        if any(split_model(text)[0] != PREVIOUS for match in stage.matches for text in match.teachers):
            with at(*path, index):
                raise RecipeError(f"matches need a teacher, and {why}; use tasks", path=("matches",))


def _teachers(data: Any) -> dict[str, Mapping[str, Any]]:
    """Return the nodes by name, of one node or a mapping of names to nodes."""
    if data is None:
        return {}
    if not isinstance(data, Mapping) or "_target_" in data or not all(isinstance(v, Mapping) for v in data.values()):
        return {TEACHER: _model(data, "teacher")}
    return {name: _model(node, "teacher", name) for name, node in data.items()}


def _stages(data: Any) -> tuple[Stage, ...]:
    with at("stages"):
        return parse_stages(data)


def _pretrain(data: Any) -> dict[str, tuple[Stage, ...]]:
    """Return the teachers' own stages: those of the one teacher, or a mapping of teachers' names to stages."""
    if not data:
        return {}
    with at("pretrain"):
        if not isinstance(data, Mapping) or "_target_" in data:
            return {TEACHER: parse_stages(data)}
        stages_by_name = {}
        for name, stages in data.items():
            with at(name):
                stages_by_name[name] = parse_stages(stages)
        return stages_by_name


def _views(data: Any) -> dict[str, Mapping[str, Any]]:
    if data is None:
        return {}
    if not isinstance(data, Mapping):
        raise RecipeError(f"views must be a mapping of models' names to nodes, got {data!r}", path=("views",))
    for name, node in data.items():
        with at("views", name):
            nodes.check(node, kind="callable")
    return dict(data)


def _inherit(data: Any) -> Inherit | None:
    with at("inherit"):
        return Inherit.of(data)


def _of_student(task: Task) -> bool:
    return all(split_model(address)[0] in ("", STUDENT) for address in task.students)


def _unnamed(by_name: dict[str, Any]) -> Any:
    """Return what belongs to the only teacher without its name, as a recipe writes it."""
    return by_name.get(TEACHER, by_name) if len(by_name) < 2 and TEACHER in by_name else by_name or None


def _model(node: Any, *path: str) -> Mapping[str, Any]:
    with at(*path):
        if not isinstance(node, Mapping):
            raise RecipeError(f"expected a node such as {{_target_: package.module.Name}}, got {node!r}")
        if not isinstance(node.get("weights"), str | None):
            raise RecipeError(f"weights must be a path, or PACKAGE:NAME, got {node['weights']!r}", path=("weights",))
        nodes.check({key: value for key, value in node.items() if key != "weights"}, kind="module")
    return node


def _data(data: Any) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise RecipeError(f"data must be a mapping with a node under 'train', got {data!r}", path=("data",))
    with at("data"):
        for key in data:
            if key not in _DATA_KEYS:
                raise RecipeError(f"unknown key {key!r}{close_names(key, _DATA_KEYS)}", path=(key,))
        if "train" not in data:
            raise RecipeError("the key 'train' is missing")
        values = {**_DATA_DEFAULTS, **data}
        _whole(values["batch_size"], "batch_size", 1)
        _whole(values["workers"], "workers", 0)
        if values.get("collate") is not None:
            _check_collate(values["collate"])
        for split in ("train", "val", "test"):
            if split == "train" or values[split] is not None:
                with at(split):
                    nodes.check(values[split], kind="dataset")
        return values


def _check_collate(collate: Any) -> None:
    with at("collate"):
        if isinstance(collate, str):
            nodes.find(collate, kind="callable")
        else:
            nodes.check(collate, kind="callable")


def _name(name: Any) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name):
        message = f"name: it names the run's folder, so letters, digits, '-', '_' and '.', got {name!r}"
        raise RecipeError(message, path=("name",))
    return name


def _whole(value: Any, key: str, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise RecipeError(f"{key} must be a whole number of at least {least}, got {value!r}", path=(key,))
    return value


def _flag(value: Any, key: str) -> bool:
    if not isinstance(value, bool):
        raise RecipeError(f"{key} must be true or false, got {value!r}", path=(key,))
    return value
