"""Tensors in nested containers, the device they are on and the number of samples they hold.

Containers are mappings, tuples, named tuples and lists. `torch.utils._pytree` would see fewer of them: to it a mapping
that is no registered class, such as the `BatchEncoding` of a Hugging Face collator, is a leaf.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from types import FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from compresskit.errors import DataError

_OBJECT_LEVELS = 3
"""Levels of objects whose attributes `held_tensors` searches."""

_LEAVES = (str, bytes, int, float, complex, bool, type(None))
_OPAQUE = (nn.Module, type, ModuleType, FunctionType, MethodType)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield all tensors of a nested value, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)


def held_tensors(value: Any, *, objects: bool = False) -> Iterator[Tensor]:
    """Yield all tensors that a value holds, in order: those of `tensors_in`, and those in sets and data classes.

    A container that occurs in several places is searched once, so that circles end.

    Args:
        value: Anything.
        objects: Search the attributes of other objects too, three levels deep. Modules, classes and functions are not
            searched, because their attributes may lead to all of a program.
    """
    return _held(value, _OBJECT_LEVELS if objects else 0, set())


def _held(value: Any, levels: int, seen: set[int]) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
        return
    if isinstance(value, _LEAVES) or id(value) in seen:
        return
    seen.add(id(value))
    parts = list(_parts(value))
    for part in parts:
        yield from _held(part, levels, seen)
    if levels and not parts and not isinstance(value, _OPAQUE):
        for attribute in list(getattr(value, "__dict__", {}).values()):
            yield from _held(attribute, levels - 1, seen)


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list | tuple | set | frozenset):
        yield from value
    elif is_dataclass(value) and not isinstance(value, type):
        yield from (getattr(value, field.name, None) for field in fields(value))


def map_tensors(function: Callable[[Tensor], Any], value: Any) -> Any:
    """Return a nested value with `function` of each of its tensors in the tensor's place."""
    if isinstance(value, Tensor):
        return function(value)
    return _map_items(lambda item: map_tensors(function, item), value)


def _map_items(function: Callable[[Any], Any], value: Any) -> Any:
    """Return a container of the same kind with `function` of each item; any other value is returned as it is."""
    if isinstance(value, Mapping):
        return {key: function(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(function, value))
    if isinstance(value, (tuple, list)):
        return type(value)(map(function, value))
    return value


def to_device(value: Any, device: torch.device) -> Any:
    """Return a nested value on `device`; tensors made in inference mode are cloned, so that autograd can use them."""
    return map_tensors(lambda t: (t.clone() if t.is_inference() else t).to(device, non_blocking=True), value)


def clone_tensors(value: Any) -> Any:
    """Return a nested value with a clone of each tensor."""
    return map_tensors(Tensor.clone, value)


def batch_size(inputs: Any) -> int:
    """Return the number of samples in a batch: the first dimension of its first tensor that has one.

    Raises:
        DataError: The inputs hold no tensor with a batch dimension.
    """
    for tensor in tensors_in(inputs):
        if tensor.dim():
            return tensor.shape[0]
    raise DataError(f"a batch's inputs hold no tensor with a batch dimension, got {type(inputs).__name__}")


def rows_of(value: Any, count: int, rows: slice) -> Any:
    """Return some samples of a nested batch of `count`: rows of the tensors and lists that are `count` long."""
    if isinstance(value, Tensor):
        return value[rows] if value.dim() and value.shape[0] == count else value
    if (
        isinstance(value, list)
        and len(value) == count
        and not any(len(t) == count for t in tensors_in(value) if t.dim())
    ):
        return value[rows]
    return _map_items(lambda item: rows_of(item, count, rows), value)


def parameters_and_buffers(module: nn.Module) -> Iterator[Tensor]:
    """Yield the parameters of a module, then its buffers."""
    yield from module.parameters()
    yield from module.buffers()


def device_of(value: Any) -> torch.device:
    """Return the device of the first tensor of a module or a nested value; the CPU if there is none."""
    tensors = parameters_and_buffers(value) if isinstance(value, nn.Module) else tensors_in(value)
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


def call_model(model: nn.Module, inputs: Any) -> Any:
    """Return `model(*inputs)` for a tuple or list, `model(**inputs)` for a mapping, else `model(inputs)`."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, (tuple, list)):
        return model(*inputs)
    return model(inputs)


def wait_for_device(device: torch.device) -> None:
    """Wait until a GPU has done all work that was queued on it. On any other device nothing is queued."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
