"""Models handed back as they were: modes, `requires_grad` flags and buffers."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from compresskit.errors import RecipeError, first_line

SavedBuffer = tuple[nn.Module, str, Tensor, Tensor]
"""A module, the name of a buffer of its own, that buffer, and a clone with the value to restore."""


@contextmanager
def preserve_state(*models: nn.Module, buffers: bool = False) -> Iterator[None]:
    """Restore modes, `requires_grad` flags and, with `buffers`, all buffers and their values on exit."""
    modules = [module for model in models for module in model.modules()]
    modes = [(module, module.training) for module in modules]
    flags = [(parameter, parameter.requires_grad) for model in models for parameter in model.parameters()]
    saved = save_buffers(modules if buffers else [])
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, flag in flags:
            parameter.requires_grad = flag  # a lazy parameter has no methods yet
        restore_buffers(saved)


def save_buffers(modules: Iterable[nn.Module]) -> list[SavedBuffer]:
    """Return the buffers that `modules` hold themselves, with their present values, for `restore_buffers`."""
    return [
        (module, name, buffer, buffer.detach().clone())
        for module in modules
        for name, buffer in module.named_buffers(recurse=False)
    ]


@torch.no_grad()
def restore_buffers(saved: Iterable[SavedBuffer]) -> None:
    """Give modules the very buffers that they had, with the values that these had."""
    for module, name, buffer, value in saved:
        if buffer.shape != value.shape:  # an observer of quantization takes its size in its first forward
            buffer.data = value
        elif not _surely_equal(buffer, value):
            buffer.copy_(value)
        setattr(module, name, buffer)  # a forward may have put another tensor in its place


def _surely_equal(one: Tensor, other: Tensor) -> bool:
    try:
        return one.is_meta or torch.equal(one, other)
    except RuntimeError:  # sparse and opaque tensors cannot be compared
        return False


@contextmanager
def explain_copy_failure(model: nn.Module, purpose: str) -> Iterator[None]:
    """Explain a copy of `model` that fails inside the block.

    Raises:
        RecipeError: The model holds something that cannot be copied; the message starts with `purpose`.
    """
    try:
        yield
    except (RuntimeError, TypeError) as error:
        why = first_line(error)
        raise RecipeError(f"{purpose} needs a copy of {type(model).__name__}, which cannot be copied: {why}") from error
