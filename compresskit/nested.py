"""Tensors in nested containers: walking them, their device and their batch size."""

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from compresskit.errors import DataError


def moved(value: Any, device: torch.device) -> Any:
    """A nested batch on `device`, fit for autograd also where it was made in inference mode."""
    return _mapped(value, lambda t: (t.clone() if t.is_inference() else t).to(device, non_blocking=True))


def copied(value: Any) -> Any:
    """A nested batch with tensors of its own."""
    return _mapped(value, Tensor.clone)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors of a nested batch, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)


def _mapped(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """A nested batch with `function` of each tensor."""
    if isinstance(value, Tensor):
        return function(value)
    return _rebuilt(value, lambda item: _mapped(item, function))


def _rebuilt(value: Any, function: Callable[[Any], Any]) -> Any:
    """A container of the same kind with `function` of each item; what is no container is given back."""
    if isinstance(value, Mapping):
        return {key: function(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(function, value))
    if isinstance(value, (tuple, list)):
        return type(value)(map(function, value))
    return value


def rows_of(value: Any, count: int, rows: slice) -> Any:
    """Some rows of a nested batch of `count` samples: of tensors and lists whose first dimension is the batch's."""
    if isinstance(value, Tensor):
        return value[rows] if value.dim() and value.shape[0] == count else value
    if (
        isinstance(value, list)
        and len(value) == count
        and not any(len(t) == count for t in tensors_in(value) if t.dim())
    ):
        return value[rows]
    return _rebuilt(value, lambda item: rows_of(item, count, rows))


def batch_size(inputs: Any) -> int:
    """Samples in a batch: the first dimension of its first tensor.

    Raises:
        DataError: The inputs hold no tensor with a batch dimension.
    """
    for tensor in tensors_in(inputs):
        if tensor.dim():
            return tensor.shape[0]
    raise DataError(f"a batch's inputs hold no tensor with a batch dimension, got {type(inputs).__name__}")


def inputs_device(inputs: Any) -> str:
    """The device type of the first tensor in a batch's inputs."""
    return next((tensor.device.type for tensor in tensors_in(inputs)), "cpu")


def device_of(value: Any) -> torch.device:
    """Return the device of the first tensor of a module or a nested value; the CPU if there is none."""
    tensors = chain(value.parameters(), value.buffers()) if isinstance(value, nn.Module) else tensors_in(value)
    return next((tensor.device for tensor in tensors), torch.device("cpu"))
