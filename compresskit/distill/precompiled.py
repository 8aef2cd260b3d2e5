"""Parts of a model that their owner compiled. No hook inside them is seen, so they run as written where one is read."""

from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from torch import nn
from torch.compiler import is_compiling


def hidden(model: nn.Module, read: Collection[nn.Module]) -> bool:
    """Whether `model` may run some of the modules `read` without their hooks."""
    return any(module in read for module in _inside_compiled(model))


def as_written(call: Callable[..., Any]) -> Callable[..., Any]:
    """The same call, in which nothing runs through a compiler of its own."""

    def called(*args: Any) -> Any:
        if is_compiling():  # all in one graph already
            return call(*args)
        with torch.compiler.set_stance("force_eager"):
            return call(*args)

    return called


def _inside_compiled(model: nn.Module) -> Iterator[nn.Module]:
    for module in model.modules():
        if getattr(module, "_compiled_call_impl", None) is not None:  # module.compile()
            yield from module.modules()
        elif isinstance(inside := getattr(module, "_orig_mod", None), nn.Module):  # torch.compile(module)
            yield from inside.modules()
