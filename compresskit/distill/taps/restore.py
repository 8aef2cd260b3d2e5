"""The user's model, handed back as it was."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from compresskit.errors import RecipeError

HeldBuffer = tuple[nn.Module, str, Tensor, Tensor]


@contextmanager
def preserved(*models: nn.Module, buffers: bool = False) -> Iterator[None]:
    """On the way out, put back modes, `requires_grad` flags and, if asked, the values of buffers."""
    modules = [module for model in models for module in model.modules()]
    modes = [(module, module.training) for module in modules]
    flags = [(parameter, parameter.requires_grad) for model in models for parameter in model.parameters()]
    held = held_buffers(modules if buffers else [])
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        put_back(held)


def held_buffers(modules: Iterable[nn.Module]) -> list[HeldBuffer]:
    """The own buffers of `modules`, as they are now, for `put_back`."""
    return [
        (module, name, buffer, buffer.detach().clone())
        for module in modules
        for name, buffer in module.named_buffers(recurse=False)
    ]


@torch.no_grad()
def put_back(held: Iterable[HeldBuffer]) -> None:
    """Give modules back the very buffers that they had, with the values that these had."""
    for module, name, buffer, value in held:
        buffer.copy_(value)
        setattr(module, name, buffer)  # a forward may have put another tensor in its place


@contextmanager
def copying(model: nn.Module, purpose: str) -> Iterator[None]:
    """Where the model is copied.

    Raises:
        RecipeError: It holds what cannot be copied; the message starts with `purpose`.
    """
    try:
        yield
    except (RuntimeError, TypeError) as error:
        why = str(error).partition("\n")[0]
        raise RecipeError(f"{purpose} needs a copy of {type(model).__name__}, which cannot be copied: {why}") from error
