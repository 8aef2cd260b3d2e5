"""Nodes: a mapping with `_target_` is called with its other keys, and `_args_` by position."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from torch import nn, optim

from compresskit.errors import CompressKitError, KeyPath, RecipeError, at, close_names
from compresskit.nodes.allowed import MORE, PUBLISHED, Allowed, Kind
from compresskit.nodes.names import find_with_entry, is_allowed
from compresskit.signature import check_arguments, option_names

_RESULTS: dict[Kind, tuple[str, Callable[[Any], bool]]] = {
    "module": ("a torch.nn.Module", lambda thing: isinstance(thing, nn.Module)),
    "optimizer": ("a torch optimizer", lambda thing: isinstance(thing, optim.Optimizer)),
    "scheduler": ("a torch learning-rate scheduler", lambda thing: isinstance(thing, optim.lr_scheduler.LRScheduler)),
    "dataset": ("a dataset", lambda thing: hasattr(thing, "__getitem__") and hasattr(thing, "__len__")),
    "callable": ("callable", callable),
    "curriculum": ("callable", callable),
    "schedule": ("callable", callable),
    "evaluation": (
        "an evaluation: it has neither per_sample nor __call__",
        lambda thing: callable(thing) or hasattr(thing, "per_sample"),
    ),
    "argument": ("anything", lambda _: True),
}


_REFUSALS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Errors by which other people's constructors refuse their arguments."""


_MISSING = object()


def build(node: Any, *args: Any, kind: Kind, **offered: Any) -> Any:
    """Call the function or class that a node names and return the result.

    Args:
        node: `{_target_: package.module.Name, option: value}`; nodes inside options are built first.
        args: Positional arguments before the node's own `_args_`, such as an optimizer's parameter groups.
        kind: Kind of the slot. It limits what may be called, and the result is checked.
        offered: Keyword arguments that are passed if the function names them and the node does not set them.

    Raises:
        RecipeError: The node names nothing usable, its options do not fit, or the call refuses them. Errors inside
            allowed packages, the user's own code, pass through unchanged.
    """
    function, own_args, options = _parse(node, kind, len(args))
    if kind in ("dataset", "argument"):
        _without_ghostscript()
    args = (*args, *_visit_inside(own_args, ("_args_",), build))
    options = {key: _visit_inside(value, (key,), build) for key, value in options.items()}
    options = {**_accepted(function, offered, len(args)), **options}
    dotted = node["_target_"]
    check_arguments(function, options, positional=len(args), name=dotted)
    result = _call(function, args, options, dotted)
    if not _RESULTS[kind][1](result):
        raise RecipeError(f"{dotted} gave {_short(result)}, which is not {_RESULTS[kind][0]}")
    return result


def check(node: Any, *args: Any, kind: Kind, **offered: Any) -> None:
    """Raise what `build` would raise, as far as can be known without a call; `args` may have any values."""
    function, own_args, options = _parse(node, kind, len(args))
    _visit_inside(own_args, ("_args_",), check)
    placeholders = {key: _visit_inside(value, (key,), check) for key, value in options.items()}
    positional = len(args) + len(own_args)
    options = {**_accepted(function, dict.fromkeys(offered, _MISSING), positional), **placeholders}
    check_arguments(function, options, positional=positional, name=node["_target_"])


def check_listed_options(dotted: str, options: Mapping[str, Any], *, kind: Kind) -> None:
    """Refuse options by name that the list does not have for a name.

    Raises:
        RecipeError: The name or an option may not be used.
    """
    function, entry = find_with_entry(dotted, kind)
    _check_listed(entry, function, 0, (), options)


def _parse(node: Any, kind: Kind, before: int) -> tuple[Callable[..., Any], list[Any], dict[str, Any]]:
    """Return the function of a node, its positional and its keyword arguments, all of which a recipe may use.

    Args:
        node: The node.
        kind: Kind of the slot.
        before: Number of positional arguments that come before the node's own.
    """
    if not isinstance(node, Mapping) or not isinstance(node.get("_target_"), str):
        hint = f"{{_target_: {node}}}" if isinstance(node, str) else "{_target_: package.module.Name, ...}"
        misspelt = get_close_matches("_target_", map(str, node), n=1) if isinstance(node, Mapping) else ()
        raise RecipeError(f"expected a node such as {hint}, got {_short(node)}", path=tuple(misspelt))
    dotted, args = node["_target_"], node.get("_args_", [])
    try:
        function, entry = find_with_entry(dotted, kind)
    except RecipeError as error:
        error.inner = error.inner or ("_target_",)
        raise
    if not callable(function):
        raise RecipeError(f"{dotted} cannot be called: it is {_short(function)}")
    options = {key: value for key, value in node.items() if key not in ("_target_", "_args_")}
    for key in options:
        if not isinstance(key, str) or (key.startswith("_") and key.endswith("_")):
            raise RecipeError(f"a node has no key {key!r}; besides options it takes _target_ and _args_", path=(key,))
    if not isinstance(args, list | tuple):
        raise RecipeError(f"_args_: expected a list, got {_short(args)}", path=("_args_",))
    _check_listed(entry, function, before, args, options)
    return function, list(args), options


def _check_listed(
    entry: Allowed | None, function: Callable[..., Any], before: int, args: Sequence[Any], options: Mapping[str, Any]
) -> None:
    """Refuse arguments that are not on the list for this name, whether they come by key or by position."""
    if entry is None:  # the user allows the package
        return
    names = _positional_names(function, entry)[before:]
    for index, value in enumerate(args):
        with at("_args_", index):
            if index < len(names):
                _check_argument(entry, names[index], value)
            elif MORE not in entry.marks:
                raise RecipeError(f"{entry.dotted} takes {len(names) or 'no'} arguments by position; give it by name")
    known = option_names(function, positional=before + len(args))
    for key, value in options.items():
        if key in entry.marks or known is None or key in known:  # else it is a mistake, which is reported with others
            _check_argument(entry, key, value, path=(key,))


def _positional_names(function: Callable[..., Any], entry: Allowed) -> list[str]:
    """Return the names of the arguments by position. Where the signature has none, they have the list's order."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin
        return []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    is_open = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return entry.arguments if is_open and not names and MORE not in entry.marks else names


def _check_argument(entry: Allowed, name: str, value: Any, *, path: KeyPath = ()) -> None:
    top = entry.dotted.partition(".")[0]
    if name not in entry.marks:
        near = get_close_matches(name, entry.arguments, n=1, cutoff=0.7)
        hint = close_names(name, near) if near else ""
        raise RecipeError(
            f"a recipe may not set {name!r} of {entry.dotted}{hint or f'; if you trust it, add --allow {top}'}",
            path=path,
        )
    if entry.marks[name] == PUBLISHED and not (value is None or re.fullmatch(r"[\w.-]+", str(value))):
        raise RecipeError(
            f"{name} names something that {top} publishes: letters, digits, '_', '-' and '.', got {value!r}; your "
            "own weights are loaded by weights: beside _target_",
            path=path,
        )


def _visit_inside(value: Any, path: KeyPath, visit: Callable[..., Any]) -> Any:
    """Return a value with the nodes inside it built; or checked, with a placeholder for each."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            with at(*path):
                built = visit(value, kind="argument")
            return _MISSING if built is None else built
        return {key: _visit_inside(member, (*path, key), visit) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_visit_inside(member, (*path, index), visit) for index, member in enumerate(value)]
    return value


def _accepted(function: Callable[..., Any], offered: Mapping[str, Any], positional: int) -> dict[str, Any]:
    """Return the offered arguments that the function takes by name."""
    names = option_names(function, positional=positional) or ()
    return {key: value for key, value in offered.items() if key in names}


def _call(function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any], dotted: str) -> Any:
    try:
        return function(*args, **options)
    except CompressKitError:  # also a ValueError or LookupError, and says itself what is wrong
        raise
    except _REFUSALS as error:
        if is_allowed(dotted):  # the user's own code: its traceback says more than we could
            raise
        raise RecipeError(f"{dotted} refuses these options: {error or type(error).__name__}") from error


def _without_ghostscript() -> None:
    """Let Pillow start no Ghostscript in this process: it would for a file that is named .jpg and is PostScript."""
    from PIL import EpsImagePlugin

    EpsImagePlugin.gs_binary = False


def _short(thing: Any) -> str:
    """Return a value in a few words, for a message."""
    text = repr(thing)
    return text if len(text) <= 60 else f"{text[:57]}..."
