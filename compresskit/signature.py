"""The check of keyword arguments against a signature before a call, so that a typo stops nothing halfway."""

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
"""Annotations that a recipe's plain values are checked against: the words for each, and the test."""


def check_arguments(
    function: Callable[..., Any],
    keywords: Mapping[str, Any],
    *,
    positional: int = 0,
    name: str,
    noun: str = "option",
) -> None:
    """Check keyword arguments before a call: their names, their presence and the types of plain values.

    Args:
        function: A function, a class or an object with `__call__`.
        keywords: The keyword arguments. Plain values are checked against plain annotations, others are not checked.
        positional: Number of arguments that the call passes by position.
        name: Name of the function in messages.
        noun: Noun for a keyword in messages.

    Raises:
        RecipeError: A keyword is unknown (the message has the nearest), missing, passed twice or of the wrong type.
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
    """Return the keywords that `function` takes beside its first positional arguments; None if it takes any."""
    parameters = _parameters(function)
    if not parameters or any(p.kind is p.VAR_KEYWORD for p in parameters):
        return [] if isinstance(function, types.FunctionType) and not parameters else None
    return [parameter.name for parameter in _keywords(function, positional)]


def takes(function: Callable[..., Any], *, positional: int) -> bool:
    """Return whether `function` takes this number of positional arguments; True for a builtin without a signature."""
    parameters = _parameters(function)
    if not parameters or any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return not isinstance(function, types.FunctionType) or bool(parameters)
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters) >= positional


def _keywords(function: Callable[..., Any], positional: int) -> list[inspect.Parameter]:
    """Return the parameters that can be passed by keyword when the first ones are passed by position."""
    parameters = _parameters(function)
    ordered = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    named = [p for p in ordered[positional:] if p.kind is p.POSITIONAL_OR_KEYWORD]
    return [*named, *(p for p in parameters if p.kind is p.KEYWORD_ONLY)]


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters, with annotations evaluated where possible; none for a builtin without a signature."""
    for evaluate in (True, False):
        try:
            return list(inspect.signature(function, eval_str=evaluate).parameters.values())
        except (NameError, SyntaxError, AttributeError, TypeError, ValueError):
            continue
    return []


def _fits(value: Any, annotation: Any) -> bool:
    """Return False only if a plain value surely does not fit: code may accept more than it declares."""
    if not isinstance(value, bool | int | float | str | list | dict | None):
        return True
    origin = get_origin(annotation) or annotation
    if origin in (Union, types.UnionType):
        return any(_fits(value, member) for member in get_args(annotation))
    if origin is Literal:
        return value in get_args(annotation)
    if isinstance(origin, type | None) and origin in _PLAIN:
        return _PLAIN[origin][1](value)
    return not _is_torch_class(origin)


def _is_torch_class(annotation: Any) -> bool:
    """Return whether the annotation is a class of tensors or modules, which no plain value is an instance of."""
    import torch

    return isinstance(annotation, type) and issubclass(annotation, torch.Tensor | torch.nn.Module)


def _words(annotation: Any) -> str:
    """Return the plain part of an annotation in words: "a number" for `float | Tensor`."""
    origin = get_origin(annotation) or annotation
    if origin is Literal:
        return "one of " + ", ".join(repr(choice) for choice in get_args(annotation))
    if origin in (Union, types.UnionType):
        members = get_args(annotation)
        plain = [m for m in members if not _is_torch_class(m) and not (m is int and float in members)]
        return " or ".join(dict.fromkeys(_words(member) for member in plain))
    return _PLAIN[origin][0] if isinstance(origin, type | None) and origin in _PLAIN else str(origin)
