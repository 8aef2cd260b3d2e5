"""A layer that does not take what it gets, named by its path: torch's own message knows two shapes and no names."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from compresskit.distill.taps.locate import unwrap
from compresskit.errors import CompressKitError, ShapeError, first_line

_LIBRARIES = ("torch", "torchvision", "timm")


@contextmanager
def explain_failure(title: str, model: nn.Module) -> Iterator[None]:
    """Turn an error of a layer of torch, torchvision or timm inside the block into one that names the layer.

    Args:
        title: The model's name in messages, such as "the student".
        model: The model that runs inside the block.

    Raises:
        ShapeError: Such a layer refuses its input. Errors of other code, the user's, pass through unchanged.
    """
    try:
        yield
    except (CompressKitError, torch.OutOfMemoryError):
        raise
    except (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError) as error:
        paths = {id(module): path for path, module in unwrap(model).named_modules()}
        layer, inputs = _failing_layer(error.__traceback__, paths)
        if layer is None:
            raise
        shapes = ", ".join(f"({', '.join(map(str, tensor.shape))})" for tensor in inputs)
        path = paths[id(layer)] or "."
        raise ShapeError(
            f"{title} does not take this batch: its layer {path!r} ({type(layer).__name__}) got {shapes}: "
            f"{first_line(error)}"
        ) from error


def _failing_layer(traceback: TracebackType | None, paths: dict[int, str]) -> tuple[nn.Module | None, list[Tensor]]:
    """Return the innermost module of the model that was running, if it is a library's, and its first tensor."""
    layer, arguments = None, {}
    while traceback is not None:
        values: dict[str, Any] = traceback.tb_frame.f_locals
        owner = values.get("self")
        if isinstance(owner, nn.Module) and id(owner) in paths and traceback.tb_frame.f_code.co_name == "forward":
            layer, arguments = owner, values
        traceback = traceback.tb_next
    if layer is None or type(layer).__module__.partition(".")[0] not in _LIBRARIES:
        return None, []
    return layer, [value for value in arguments.values() if isinstance(value, Tensor)][:1]
