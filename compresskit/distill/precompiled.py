"""Parts of a model that their owner compiled. No hook inside them is seen, so they run as written where one is read."""

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import nn


def running_hooks(model: nn.Module, read: Collection[nn.Module]) -> Callable[[], AbstractContextManager[object]]:
    """What to enter while `model` runs, so that hooks on the modules `read` fire: mostly nothing."""
    if any(part in read for part in _hidden(model)):
        return partial(torch.compiler.set_stance, "force_eager")
    return nullcontext


def _hidden(model: nn.Module) -> Iterator[nn.Module]:
    """The modules of which some may run without their hooks."""
    for module in model.modules():
        if getattr(module, "_compiled_call_impl", None) is not None:  # module.compile()
            yield from module.modules()
        elif isinstance(inside := getattr(module, "_orig_mod", None), nn.Module):  # torch.compile(module)
            yield from inside.modules()
