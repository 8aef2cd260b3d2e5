"""Copies of a model, and a guard around the model itself.

Everything runs on copies, so that a forward or another library changes only a copy. The guard covers what escapes a
copy: a function that refers to the original, a forward that draws random numbers.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from compresskit.errors import DataError
from compresskit.nested import held_tensors
from compresskit.randomness import own_randomness
from compresskit.restore import preserve_state

_TABLES = (
    *("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks"),
    *("_forward_pre_hooks_with_kwargs", "_backward_hooks", "_backward_pre_hooks", "_modules", "_parameters"),
    "_buffers",
)
"""Dictionaries of every module that torch keeps."""


def copy_without_values(model: nn.Module, stand_in: Callable[[Tensor], Tensor] | None = None) -> nn.Module:
    """Return a copy in eval mode whose tensors have shapes and no values. It takes next to no memory.

    Args:
        model: Any module; tied tensors stay tied.
        stand_in: Function that makes the stand-in of a tensor; None puts it on the meta device.

    Raises:
        DataError: The model cannot be copied.
    """
    make = stand_in or _on_meta
    return _deepcopy(model, {id(tensor): make(tensor) for tensor in _all_tensors(model)}).eval()


def copy_to(model: nn.Module, device: torch.device | str) -> nn.Module:
    """Return a copy in eval mode with the same values, on `device`.

    Raises:
        DataError: The model cannot be copied.
    """
    computed = (tensor for tensor in _all_tensors(model) if not tensor.is_leaf)  # deepcopy refuses these
    return _deepcopy(model, {id(tensor): tensor.detach().clone() for tensor in computed}).to(device).eval()


def copy_with_zeros(model: nn.Module) -> nn.Module:
    """Return a copy in eval mode on the CPU that runs in next to no memory: each parameter is one zero, expanded.

    Raises:
        DataError: The model cannot be copied.
    """

    def zero(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            return torch.zeros_like(tensor, device="cpu") if tensor.is_meta else tensor.detach().to("cpu", copy=True)
        expanded = torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
        return nn.Parameter(expanded, requires_grad=tensor.requires_grad)

    return copy_without_values(model, zero)


@contextmanager
def guard(*models: nn.Module) -> Iterator[None]:
    """Restore models, random generators and the fast path of attention on exit, also after an error.

    Modes, attributes, hooks, buffers and their values, and `requires_grad` are restored. Values of parameters are not,
    as nothing trains in a profile.
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


def _deepcopy(model: nn.Module, memo: dict[int, Any]) -> nn.Module:
    try:
        return copy.deepcopy(model, memo)
    except (TypeError, RuntimeError, ValueError, AttributeError, NotImplementedError) as error:
        raise DataError(
            f"{type(model).__name__} cannot be copied, and profiling works on a copy: {error}. Give the class a "
            "__deepcopy__, or leave out the part that cannot be copied"
        ) from error


def _all_tensors(model: nn.Module) -> Iterator[Tensor]:
    """Yield parameters, buffers, and tensors in plain attributes; those inside other objects may be data, and stay."""
    for module in model.modules():
        yield from module.parameters(recurse=False)
        yield from module.buffers(recurse=False)
        yield from held_tensors({name: value for name, value in vars(module).items() if name not in _TABLES})


def _on_meta(tensor: Tensor) -> Tensor:
    empty = torch.empty_like(tensor, device="meta", requires_grad=False)
    return nn.Parameter(empty, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def _tables(module: nn.Module) -> list[dict[Any, Any]]:
    tables = (vars(module).get(name) for name in _TABLES)
    return [table for table in tables if isinstance(table, dict)]
