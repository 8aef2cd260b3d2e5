"""Keyword arguments checked against a signature before the call: a typo is named, and nothing has started."""

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from compresskit.errors import RecipeError, close_names

_PLAIN: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    float: ("a number", lambda value: isinstance(value, int | float) and not isinstance(value, bool)),
    str: ("text", lambda value: isinstance(value, str)),
    Path: ("a path", lambda value: isinstance(value, str)),
    list: ("a list", lambda value: isinstance(value, list)),
    tuple: ("a list", lambda value: isinstance(value, list)),
    Sequence: ("a list", lambda value: isinstance(value, list | str)),
    dict: ("a mapping", lambda value: isinstance(value, dict)),
    Mapping: ("a mapping", lambda value: isinstance(value, dict)),
    None: ("null", lambda value: value is None),
    types.NoneType: ("null", lambda value: value is None),
}
"""Annotations that a recipe's plain values can be held against: the words for each, and the test."""


def check_arguments(
    function: Callable[..., Any],
    keywords: Mapping[str, Any],
    *,
    positional: int = 0,
    name: str,
    noun: str = "option",
) -> None:
    """Raise what the call would raise, but with the nearest right name and before anything runs.

    Args:
        function: What will be called: a function, a class or an object with `__call__`.
        keywords: The keyword arguments. Plain values are held against plain annotations, other values are passed by.
        positional: How many arguments the call passes by position, before these.
        name: What the message calls `function`.
        noun: What the message calls a keyword.

    Raises:
        RecipeError: A keyword is unknown, missing, given twice or of the wrong type.
    """
    names = option_names(function, positional=positional)
    known = {parameter.name: parameter for parameter in _keywords(function, positional)}
    for key in keywords:
        if names is not None and key not in names:
            raise RecipeError(f"{name} has no {noun} {key!r}{close_names(key, names)}", path=(key,))
    for parameter in known.values():
        if parameter.default is parameter.empty and parameter.name not in keywords:
            raise RecipeError(f"{name} needs the {noun} {parameter.name!r}")
    for key, value in keywords.items():
        if key in known and not _fits(value, known[key].annotation):
            raise RecipeError(f"{key} must be {_words(known[key].annotation)}, got {value!r}", path=(key,))


def option_names(function: Callable[..., Any], *, positional: int = 0) -> list[str] | None:
    """The keywords that `function` takes beside so many positional arguments; None where it takes any."""
    parameters = _parameters(function)
    if not parameters or any(p.kind is p.VAR_KEYWORD for p in parameters):
        return [] if isinstance(function, types.FunctionType) and not parameters else None
    return [parameter.name for parameter in _keywords(function, positional)]


def takes(function: Callable[..., Any], *, positional: int) -> bool:
    """Whether `function` can be called with so many positional arguments; a builtin that does not say can."""
    parameters = _parameters(function)
    if not parameters or any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return not isinstance(function, types.FunctionType) or bool(parameters)
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters) >= positional


def _keywords(function: Callable[..., Any], positional: int) -> list[inspect.Parameter]:
    """The parameters that can be given by keyword when the first ones are given by position."""
    parameters = _parameters(function)
    ordered = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    named = [p for p in ordered[positional:] if p.kind is p.POSITIONAL_OR_KEYWORD]
    return [*named, *(p for p in parameters if p.kind is p.KEYWORD_ONLY)]


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters, their annotations evaluated where that is possible; none for a builtin that does not tell."""
    for evaluate in (True, False):
        try:
            return list(inspect.signature(function, eval_str=evaluate).parameters.values())
        except (NameError, SyntaxError, AttributeError, TypeError, ValueError):
            continue
    return []


def _fits(value: Any, annotation: Any) -> bool:
    """False only where a plain value surely does not fit: code may accept more than it declares."""
    if not isinstance(value, bool | int | float | str | list | dict | None):
        return True
    origin = get_origin(annotation) or annotation
    if origin in (Union, types.UnionType):
        return any(_fits(value, member) for member in get_args(annotation))
    if origin is Literal:
        return value in get_args(annotation)
    if isinstance(origin, type | None) and origin in _PLAIN:
        return _PLAIN[origin][1](value)
    return not _is_torchs(origin)


def _is_torchs(annotation: Any) -> bool:
    """Whether the annotation is a tensor's or a module's class, which no plain value can be an instance of."""
    import torch

    return isinstance(annotation, type) and issubclass(annotation, torch.Tensor | torch.nn.Module)


def _words(annotation: Any) -> str:
    """The plain part of an annotation: `float | Tensor` is "a number"."""
    origin = get_origin(annotation) or annotation
    if origin is Literal:
        return "one of " + ", ".join(repr(choice) for choice in get_args(annotation))
    if origin in (Union, types.UnionType):
        members = get_args(annotation)
        plain = [m for m in members if not _is_torchs(m) and not (m is int and float in members)]
        return " or ".join(dict.fromkeys(_words(member) for member in plain))
    return _PLAIN[origin][0] if isinstance(origin, type | None) and origin in _PLAIN else str(origin)
