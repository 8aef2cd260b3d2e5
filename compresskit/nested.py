"""Tensors in nested containers, the device they are on and the number of samples they hold.

Containers are mappings, tuples, named tuples and lists. `torch.utils._pytree` would see fewer of them: to it a mapping
that is no registered class, such as the `BatchEncoding` of a Hugging Face collator, is a leaf.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from compresskit.errors import DataError


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


def device_of(value: Any) -> torch.device:
    """Return the device of the first tensor of a module or a nested value; the CPU if there is none."""
    tensors = chain(value.parameters(), value.buffers()) if isinstance(value, nn.Module) else tensors_in(value)
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


def wait_for_device(device: torch.device) -> None:
    """Wait until a GPU has done all work that was queued on it. On any other device nothing is queued."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
