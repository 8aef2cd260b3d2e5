"""A recipe's stages: plain data to `Stage` objects, and back with every default written out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, get_args, get_origin, get_type_hints

from compresskit import nodes
from compresskit.distill.spec.match import Match, Splice, Task
from compresskit.distill.spec.stage import Stage
from compresskit.errors import RecipeError, close_names
from compresskit.losses import check_options, resolve_loss
from compresskit.signature import check_arguments, option_names

_STAGE = tuple(field.name for field in fields(Stage))


_TERMS: dict[type, tuple[str, ...]] = {
    Match: ("student", "teacher", "loss", "weight", "adapter"),
    Task: ("loss", "student", "target", "weight"),
    Splice: ("source", "into", "adapter"),
}
"""Keys of a term besides its loss's options; the first one is what a term written as plain text means."""


_LISTS: dict[str, type] = {"matches": Match, "tasks": Task, "splices": Splice}
"""The keys of a stage that hold terms, and of a curriculum whose parameters are not annotated."""


DEFAULT_OPTIMIZER = {"_target_": "torch.optim.AdamW", "lr": 1e-3}
"""What the engine takes where a stage names none."""


def parse_stages(data: Any, where: str) -> tuple[Stage, ...]:
    """The stages of a list, or of one curriculum node.

    Raises:
        RecipeError: Something in them cannot be understood; the message starts with the place.
    """
    if isinstance(data, Mapping):
        return _curriculum(data, where)
    if not isinstance(data, list) or not data:
        raise RecipeError(f"{where} must be a list of stages or a curriculum node with _target_, got {data!r}")
    stages = tuple(_stage(node, f"{where}[{index}]") for index, node in enumerate(data))
    names = [stage.name for stage in stages]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise RecipeError(f"{where}[{index}]: the name {name!r} is taken by {where}[{names.index(name)}]")
    return stages


def describe_stages(stages: tuple[Stage, ...]) -> list[dict[str, Any]]:
    """The stages as a recipe would write them, with every choice that was left to a default."""
    return [_describe_stage(stage) for stage in stages]


def _stage(node: Any, where: str) -> Stage:
    if not isinstance(node, Mapping):
        raise RecipeError(f"{where} must be a stage, a mapping with the key 'name', got {node!r}")
    _check_keys(node, _STAGE, where)
    if "name" not in node:
        raise RecipeError(f"{where} needs the key 'name'")
    values = _inside(node, where)
    try:
        return Stage(**values)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from error


def _curriculum(node: Mapping[str, Any], where: str) -> tuple[Stage, ...]:
    dotted = node.get("_target_")
    if not isinstance(dotted, str):
        raise RecipeError(
            f"{where}: a curriculum is a node such as {{_target_: compresskit.curricula.progressive, ...}}"
        )
    curriculum = nodes.find(dotted, where=where, kind="callable")
    options = {key: value for key, value in node.items() if key != "_target_"}
    own = option_names(curriculum)
    _check_keys(options, own if own is not None else (*_parameters(curriculum), *_STAGE), where)
    check_arguments(curriculum, options, where=where, name=dotted, noun="key")
    options = _inside(options, where, _terms_of(curriculum))
    try:
        stages = tuple(curriculum(**options))
    except (RecipeError, TypeError) as error:
        raise RecipeError(f"{where}: {error}") from error
    if not stages or not all(isinstance(stage, Stage) for stage in stages):
        raise RecipeError(f"{where}: {dotted} gave {stages!r}, which are not stages")
    return stages


def _parameters(function: Any) -> tuple[str, ...]:
    code = function.__code__
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _inside(node: Mapping[str, Any], where: str, terms: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The keys of a stage or a curriculum, its terms made objects and its nodes checked."""
    values = dict(node)
    for key, kind in (terms or {key: Sequence[kind] for key, kind in _LISTS.items()}).items():
        if key in values:
            values[key] = _terms(values[key], kind, f"{where}.{key}")
    _check_node(values.get("optimizer"), "optimizer", f"{where}.optimizer")
    _check_node(values.get("scheduler"), "scheduler", f"{where}.scheduler", total_steps=None, T_max=None)
    return values


def _terms_of(curriculum: Callable[..., Any]) -> dict[str, Any]:
    """The parameters of a curriculum that take terms: those annotated with them, or by their names."""
    try:
        annotations = get_type_hints(curriculum)
    except (NameError, TypeError):
        annotations = {}
    named = {key: Sequence[kind] for key, kind in _LISTS.items() if key not in annotations}
    return named | {key: hint for key, hint in annotations.items() if _kind(hint) is not None and key != "return"}


def _kind(hint: Any) -> type | None:
    """Match, Task or Splice where a type hint is one of them or a sequence of such, however deep."""
    if hint in _TERMS:
        return hint
    arguments = get_args(hint)
    return _kind(arguments[0]) if get_origin(hint) is Sequence and arguments else None


def _terms(data: Any, hint: Any, where: str) -> Any:
    if hint in _TERMS:
        return _term(data, hint, where)
    if not isinstance(data, list):
        raise RecipeError(f"{where} must be a list, got {data!r}")
    return tuple(_terms(node, get_args(hint)[0], f"{where}[{index}]") for index, node in enumerate(data))


def _term(node: Any, kind: type, where: str) -> Match | Task | Splice:
    keys = _TERMS[kind]
    node = {keys[0]: node} if isinstance(node, str) else node
    if not isinstance(node, Mapping) or keys[0] not in node:
        raise RecipeError(f"{where} needs the key {keys[0]!r}, got {node!r}")
    if kind is Splice:
        _check_keys(node, keys, where)
    else:
        _check_term_keys(node, keys, where)
    values = dict(node)
    if isinstance(values.get("adapter"), Mapping):
        nodes.check(values["adapter"], kind="module", where=f"{where}.adapter")
    if isinstance(values.get("target"), Mapping):
        nodes.check(values["target"], kind="callable", where=f"{where}.target")
    elif isinstance(values.get("target"), str):
        values["target"] = nodes.find(values["target"], kind="callable", where=f"{where}.target")
    try:
        return kind(**values)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from error


def _check_term_keys(node: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    """Name the nearest among the term's own keys and its loss's options: one may have been meant for the other."""
    loss = node.get("loss", "mse")
    if not isinstance(loss, str):
        raise RecipeError(f"{where}: loss must be a name, got {loss!r}")
    entry = resolve_loss(loss, where=f"{where}.loss")
    options = option_names(entry.function, positional=entry.positional)
    if options is not None:
        _check_keys(node, (*keys, *options), where)
    check_options(entry, {key: value for key, value in node.items() if key not in keys}, where=where)


def _check_node(node: Any, kind: nodes.Kind, where: str, **offered: Any) -> None:
    if isinstance(node, str):
        node = {"_target_": node}
    if node is not None:
        nodes.check(node, None, kind=kind, where=where, **offered)


def _check_keys(node: Mapping[str, Any], known: tuple[str, ...] | list[str], where: str) -> None:
    for key in node:
        if key not in known:
            raise RecipeError(f"{where}: unknown key {key!r}{close_names(key, known)}")


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
