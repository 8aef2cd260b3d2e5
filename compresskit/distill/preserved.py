"""The user's model, handed back as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def preserved(*models: nn.Module, buffers: bool = False) -> Iterator[None]:
    """On the way out, put back modes, `requires_grad` flags and, if asked, the values of buffers."""
    modules = [module for model in models for module in model.modules()]
    modes = [(module, module.training) for module in modules]
    flags = [(parameter, parameter.requires_grad) for model in models for parameter in model.parameters()]
    values = [(b, b.detach().clone()) for model in models for b in model.buffers()] if buffers else []
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        with torch.no_grad():
            for buffer, value in values:
                buffer.copy_(value)
