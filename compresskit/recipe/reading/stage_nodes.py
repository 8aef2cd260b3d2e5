"""A recipe's stages: plain data to `Stage` objects, and back with every default written out."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, get_args, get_origin, get_type_hints

from compresskit import nodes
from compresskit.distill.spec.match import Match, Splice, Task
from compresskit.distill.spec.misplaced import home_of
from compresskit.distill.spec.stage import DEFAULT_OPTIMIZER, Stage
from compresskit.errors import RecipeError, at, close_names
from compresskit.losses import check_options, resolve_loss
from compresskit.losses.torchdistill import full_name
from compresskit.signature import check_arguments, option_names

_STAGE = tuple(field.name for field in fields(Stage))


_TERMS: dict[type, tuple[str, ...]] = {
    Match: ("student", "teacher", "loss", "weight", "adapter"),
    Task: ("loss", "student", "target", "weight"),
    Splice: ("source", "into", "adapter"),
}
"""Keys of a term besides its loss's options. A term written as plain text is the value of the first one."""


_LISTS: dict[str, type] = {"matches": Match, "tasks": Task, "splices": Splice}
"""Keys of a stage that hold terms, and of a curriculum whose parameters are not annotated."""


def parse_stages(data: Any) -> tuple[Stage, ...]:
    """Return the stages of a list, or of one curriculum node.

    Raises:
        RecipeError: Something in them cannot be understood; its path leads there.
    """
    if isinstance(data, Mapping):
        return _curriculum(data)
    if not isinstance(data, list) or not data:
        raise RecipeError(f"expected a list of stages or a curriculum node with _target_, got {data!r}")
    stages: list[Stage] = []
    for index, node in enumerate(data):
        with at(index):
            stages.append(_stage(node))
    names = [stage.name for stage in stages]
    for index, name in enumerate(names):
        if name in names[:index]:
            with at(index):
                raise RecipeError(f"stage {names.index(name)} has the name {name!r} already", path=("name",))
    return tuple(stages)


def describe_stages(stages: tuple[Stage, ...]) -> list[dict[str, Any]]:
    """Return the stages as a recipe would write them, with every choice that was left to a default."""
    return [_describe_stage(stage) for stage in stages]


def _stage(node: Any) -> Stage:
    if not isinstance(node, Mapping):
        raise RecipeError(f"expected a stage, a mapping with the key 'name', got {node!r}")
    _check_keys(node, _STAGE)
    if "name" not in node:
        raise RecipeError("the key 'name' is missing")
    return Stage(**_parse_parts(node))


def _curriculum(node: Mapping[str, Any]) -> tuple[Stage, ...]:
    dotted = node.get("_target_")
    if not isinstance(dotted, str):
        raise RecipeError("a curriculum is a node such as {_target_: compresskit.curricula.progressive, ...}")
    curriculum = nodes.find(dotted, kind="curriculum")
    options = {key: value for key, value in node.items() if key != "_target_"}
    own = option_names(curriculum)
    if "epochs" in options and "steps" not in options:
        raise RecipeError("a curriculum counts in steps, not epochs, as in steps: 500", path=("epochs",))
    _check_keys(options, own if own is not None else (*_parameters(curriculum), *_STAGE))
    check_arguments(curriculum, options, name=dotted, noun="key")
    options = _parse_parts(options, _terms_of(curriculum))
    try:
        stages = tuple(curriculum(**options))
    except TypeError as error:
        raise RecipeError(str(error)) from error
    if not stages or not all(isinstance(stage, Stage) for stage in stages):
        raise RecipeError(f"{dotted} gave {stages!r}, which are not stages")
    return stages


def _parameters(function: Any) -> tuple[str, ...]:
    parameters = inspect.signature(function).parameters.values()
    return tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))


def _parse_parts(node: Mapping[str, Any], terms: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the keys of a stage or a curriculum with its terms as objects, after checking its nodes."""
    values = dict(node)
    for key, kind in (terms or {key: Sequence[kind] for key, kind in _LISTS.items()}).items():
        if key in values:
            with at(key):
                values[key] = _terms(values[key], kind)
    _check_node(values.get("optimizer"), "optimizer")
    _check_node(values.get("scheduler"), "scheduler", total_steps=None, T_max=None)
    return values


def _terms_of(curriculum: Callable[..., Any]) -> dict[str, Any]:
    """Return the parameters of a curriculum that take terms, by annotation, or by name where they have none."""
    try:
        annotations = get_type_hints(curriculum)
    except (NameError, TypeError):
        annotations = {}
    named = {key: Sequence[kind] for key, kind in _LISTS.items() if key not in annotations}
    return named | {key: hint for key, hint in annotations.items() if _kind(hint) is not None and key != "return"}


def _kind(hint: Any) -> type | None:
    """Return Match, Task or Splice for a type hint that is one of them or a sequence of such, however deep."""
    if hint in _TERMS:
        return hint
    arguments = get_args(hint)
    return _kind(arguments[0]) if get_origin(hint) is Sequence and arguments else None


def _terms(data: Any, hint: Any) -> Any:
    if hint in _TERMS:
        return _term(data, hint)
    if not isinstance(data, list):
        raise RecipeError(f"expected a list, got {data!r}")
    terms = []
    for index, node in enumerate(data):
        with at(index):
            terms.append(_terms(node, get_args(hint)[0]))
    return tuple(terms)


def _term(node: Any, kind: type) -> Match | Task | Splice:
    keys = _TERMS[kind]
    node = {keys[0]: node} if isinstance(node, str) else node
    if not isinstance(node, Mapping) or keys[0] not in node:
        raise RecipeError(f"the key {keys[0]!r} is missing, got {node!r}")
    if kind is Splice:
        _check_keys(node, keys)
    else:
        _check_term_keys(node, keys)
    values = dict(node)
    if isinstance(values.get("adapter"), Mapping):
        with at("adapter"):
            nodes.check(values["adapter"], kind="module")
    with at("target"):
        if isinstance(values.get("target"), Mapping):
            nodes.check(values["target"], kind="callable")
        elif isinstance(values.get("target"), str):
            values["target"] = nodes.find(values["target"], kind="callable")
    return kind(**values)


def _check_term_keys(node: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    """Check a term's own keys and its loss's options together: one may have been meant for the other."""
    loss = node.get("loss", "mse")
    if not isinstance(loss, str):
        raise RecipeError(f"loss must be a name, got {loss!r}", path=("loss",))
    with at("loss"):
        entry = resolve_loss(loss)
    options = option_names(entry.function, positional=entry.positional)
    if options is not None:
        _check_keys(node, (*keys, *options))
    if "." in loss:
        nodes.check_listed_options(
            full_name(loss), {key: node[key] for key in node if key not in keys}, kind="callable"
        )
    check_options(entry, {key: value for key, value in node.items() if key not in keys})


def _check_node(node: Any, kind: nodes.Kind, **offered: Any) -> None:
    if isinstance(node, str):
        node = {"_target_": node}
    if node is not None:
        with at(kind):
            nodes.check(node, None, kind=kind, **offered)


def _check_keys(node: Mapping[str, Any], known: tuple[str, ...] | list[str]) -> None:
    for key in node:
        if key not in known:
            raise RecipeError(f"unknown key {key!r}{home_of(key) or close_names(key, known)}", path=(key,))


def _describe_stage(stage: Stage) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in _STAGE:
        value = getattr(stage, name)
        if name in _LISTS:
            value = [_describe_term(term) for term in value]
        elif name == "optimizer":
            value = DEFAULT_OPTIMIZER if value is None else value
        elif isinstance(value, tuple):
            value = list(value)
        if value is not None and value not in ([], {}):
            values[name] = value
    return values


def _describe_term(term: Match | Task | Splice) -> dict[str, Any]:
    values = {key: getattr(term, key) for key in _TERMS[type(term)]}
    values = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
    if callable(target := values.get("target")):
        values["target"] = f"{target.__module__}.{target.__qualname__}"
    if values.get("target", "") is None:
        del values["target"]
    return {**values, **getattr(term, "options", {})}
