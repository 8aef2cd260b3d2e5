"""Tensors inside nested values: what a model takes, returns and keeps."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from types import FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn

OBJECTS = 3
"""Levels of objects that are looked into for what a model keeps and returns."""


_PLAIN = (str, bytes, int, float, complex, bool, type(None))


def tensors_in(value: Any, *, objects: int = 0, _seen: set[int] | None = None) -> Iterator[Tensor]:
    """The tensors in nested mappings, sequences, sets and data classes, in their order.

    Args:
        value: Anything.
        objects: So many levels of other objects are looked into as well, modules aside: their attributes may lead to
            all of a program.
    """
    seen = set() if _seen is None else _seen
    if isinstance(value, _PLAIN) or id(value) in seen:
        return
    if isinstance(value, Tensor):
        yield value
        return
    seen.add(id(value))
    plain = list(_parts(value))
    inner = list(getattr(value, "__dict__", {}).values()) if objects and not plain and _may_hold(value) else []
    for part in plain:
        yield from tensors_in(part, objects=objects, _seen=seen)
    for part in inner:
        yield from tensors_in(part, objects=objects - 1, _seen=seen)


def mapped(function: Callable[[Tensor], Any], value: Any) -> Any:
    """A nested value with `function` of each of its tensors in their place."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: mapped(function, part) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(mapped(function, part) for part in value))
    if isinstance(value, list | tuple):
        return type(value)(mapped(function, part) for part in value)
    return value


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list | tuple | set | frozenset):
        yield from value
    elif is_dataclass(value) and not isinstance(value, type):
        yield from (getattr(value, field.name, None) for field in fields(value))


def _may_hold(value: Any) -> bool:
    """Whether an object's attributes are data: not those of modules, classes and functions."""
    return not isinstance(value, nn.Module | type | ModuleType | FunctionType | MethodType)
