"""Copies of a model to work on, and a guard around the model itself.

Everything runs on copies, so what a forward or another library does to its model is done to a copy. The guard is for
what escapes a copy: a function that has hold of the original, a forward that draws random numbers.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from compresskit.errors import DataError
from compresskit.profiling.counting.tensors import tensors_in
from compresskit.randomness import own_randomness
from compresskit.restore import preserve_state

_TENSORS = ("_parameters", "_buffers")


_DICTS = (
    *("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks"),
    *("_forward_pre_hooks_with_kwargs", "_backward_hooks", "_backward_pre_hooks", "_modules", *_TENSORS),
)


def weightless(model: nn.Module, empty: Callable[[Tensor], Tensor] | None = None) -> nn.Module:
    """A copy in eval mode whose tensors have shapes and no values; tied ones stay tied. It takes next to no memory.

    Args:
        model: Any module.
        empty: Makes the stand-in of a tensor; None puts it on the meta device.

    Raises:
        DataError: The model cannot be copied.
    """
    stand_in = empty or _on_meta
    return _copied(model, {id(tensor): stand_in(tensor) for tensor in _held(model)}).eval()


def real_copy(model: nn.Module, device: torch.device | str) -> nn.Module:
    """A copy in eval mode with the same values, on `device`.

    Raises:
        DataError: The model cannot be copied.
    """
    computed = (tensor for tensor in _held(model) if not tensor.is_leaf)  # deepcopy refuses these
    return _copied(model, {id(tensor): tensor.detach().clone() for tensor in computed}).to(device).eval()


def zeroed(model: nn.Module) -> nn.Module:
    """A copy in eval mode on the CPU that can run in next to no memory: each parameter is one zero, seen many times.

    Raises:
        DataError: The model cannot be copied.
    """

    def zero(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            return torch.zeros_like(tensor, device="cpu") if tensor.is_meta else tensor.detach().to("cpu", copy=True)
        spread = torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
        return nn.Parameter(spread, requires_grad=tensor.requires_grad)

    return weightless(model, zero)


def own_device(model: nn.Module) -> torch.device:
    """Where a model's first tensor is; the CPU for one without."""
    first = next(chain(model.parameters(), model.buffers()), None)
    return first.device if first is not None else torch.device("cpu")


@contextmanager
def untouched(*models: nn.Module) -> Iterator[None]:
    """Whatever happens inside: afterwards models, random generators and attention's fast path are as before.

    Modes, attributes, hooks, buffers and their values, and `requires_grad` are put back. Parameters' values are not, as
    nothing here trains.
    """
    modules = {id(module): module for model in models for module in model.modules()}.values()
    attributes = [(module, dict(vars(module))) for module in modules]
    tables = [(table, dict(table)) for module in modules for table in _tables(module)]
    fast_path = torch.backends.mha.get_fastpath_enabled()
    try:
        with preserve_state(*models, buffers=True), own_randomness(0):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for module, before in attributes:
            vars(module).clear()
            vars(module).update(before)
        for table, before in tables:
            table.clear()
            table.update(before)


def _copied(model: nn.Module, memo: dict[int, Any]) -> nn.Module:
    try:
        return copy.deepcopy(model, memo)
    except (TypeError, RuntimeError, ValueError, AttributeError, NotImplementedError) as error:
        raise DataError(
            f"{type(model).__name__} cannot be copied, and profiling works on a copy: {error}. Give the class a "
            "__deepcopy__, or leave out what cannot be copied"
        ) from error


def _held(model: nn.Module) -> Iterator[Tensor]:
    """Parameters, buffers, and tensors in plain attributes; those inside other objects may be data, and stay."""
    for module in model.modules():
        yield from module.parameters(recurse=False)
        yield from module.buffers(recurse=False)
        yield from tensors_in({name: value for name, value in vars(module).items() if name not in _DICTS})


def _on_meta(tensor: Tensor) -> Tensor:
    empty = torch.empty_like(tensor, device="meta", requires_grad=False)
    return nn.Parameter(empty, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def _tables(module: nn.Module) -> list[dict[Any, Any]]:
    tables = (vars(module).get(name) for name in _DICTS)
    return [table for table in tables if isinstance(table, dict)]
