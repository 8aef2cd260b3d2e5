"""What a failed forward means: which module, which line, and what would work instead."""

import os
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from compresskit.errors import DataError, ShapeError
from compresskit.profiling.counting.model_call import Call, shape_text
from compresskit.profiling.counting.sizes import next_fitting

_OF_TORCH = f"{Path(torch.__file__).parent}{os.sep}"


_OURS = f"{Path(__file__).parents[1]}{os.sep}"


_ABOUT_VALUES = re.compile(
    r"meta tensor|on meta|meta device|device meta|\bmeta\b.*(device|type)|item\(\)|numpy|[Ff]ake|data.dependent|"
    r"not have (an )?accessible|same device|data pointer|no data|[Mm]eta implementation|'Meta' backend"
)


_SIZES = (
    re.compile(r"Expected size (\d+) but got size (\d+)"),
    re.compile(r"Expected (\d+) in dimension \d+ but got (\d+)"),
    re.compile(r"broadcast a dimension of length (\d+) at .* broadcastable to \[(?:\d+, )*(\d+)\]"),
    re.compile(r"size of tensor a \((\d+)\) must match the size of tensor b \((\d+)\)"),
)


_CHANNELS = re.compile(r"expected input.* to have \d+ channels|cannot be multiplied|same reduction dim|Invalid channel")


_REFUSALS = (RuntimeError, ValueError, AssertionError, IndexError)
"""What torch and careful models raise over inputs; anything else is a bug and keeps its traceback."""


def needs_values(error: Exception) -> bool:
    """Whether a forward failed because its tensors have shapes only, or because of a device that it names."""
    return isinstance(error, NotImplementedError) or bool(_ABOUT_VALUES.search(str(error)))


def is_about_shapes(error: Exception) -> bool:
    """Whether a forward failed because two sizes do not fit: it would fail on any device."""
    return isinstance(error, _REFUSALS) and (_sizes(error) is not None or bool(_CHANNELS.search(str(error))))


def values_missing(error: Exception, twin: nn.Module, limit: int) -> DataError:
    """The error for a model whose Python looks at values, at a size that is not run for real unasked."""
    where, line = _place(error, twin)
    return DataError(
        f"{where} needs values at {line}, and on shapes alone there are none: {_first_line(error)}\n"
        f"Profile a smaller input (up to {limit:,} pixels a model is run for real), or say --device cpu to run this one"
    )


def explained(error: Exception, twin: nn.Module, model: nn.Module, call: Call) -> Exception:
    """The error in our words where it is about the inputs; else the error itself.

    Args:
        error: What the forward of `twin` raised.
        twin: The copy that ran.
        model: The model itself, to try other sizes with.
        call: What it was called with.
    """
    if not isinstance(error, _REFUSALS):
        return error
    if (channels := _wrong_channels(error, twin)) is not None:
        return ShapeError(channels)
    where, line = _place(error, twin)
    frame, sizes = call.frame(), _sizes(error)
    if frame is not None and sizes is not None:
        found = next_fitting(model, call)
        hint = ""
        if found is not None and (found.height, found.width) != frame:
            hint = f"; try a multiple of {found.multiple} ({found.height}x{found.width})"
        return ShapeError(f"input {frame[0]}x{frame[1]} fails at {where}: sizes {sizes[0]} and {sizes[1]}{hint}")
    return ShapeError(f"input {', '.join(call.describe())} fails at {where} ({line}): {_first_line(error)}")


def _sizes(error: Exception) -> tuple[str, str] | None:
    for pattern in _SIZES:
        if found := pattern.search(str(error)):
            return found[1], found[2]
    return None


def _wrong_channels(error: Exception, twin: nn.Module) -> str | None:
    """A sentence where a layer got another number of channels or features than it takes."""
    paths = {id(module): path for path, module in twin.named_modules()}
    for frame in _frames(error):
        module, given = frame.f_locals.get("self"), frame.f_locals.get("input")
        if id(module) not in paths or not isinstance(given, Tensor):
            continue
        for attribute, noun, axis in (
            ("in_channels", "channels", _channel_axis(module)),
            ("in_features", "features", -1),
        ):
            takes = getattr(module, attribute, None)
            if takes is not None and given.ndim >= -axis and given.shape[axis] != takes:
                path = f"`{paths[id(module)]}`" if paths[id(module)] else type(twin).__name__
                return f"{path} takes {takes} {noun}, got {given.shape[axis]} (input {shape_text(given.shape)})"
    return None


def _channel_axis(module: Any) -> int:
    """Counted from the end: a picture may come without a batch."""
    return -1 - len(getattr(module, "kernel_size", ()))


def _place(error: Exception, twin: nn.Module) -> tuple[str, str]:
    """The innermost module in which an error arose, and the last line outside of torch: `model.py, line 12`."""
    paths = {id(module): path for path, module in twin.named_modules()}
    path, line = "", "an unknown line"
    for frame in _frames(error):
        path = paths.get(id(frame.f_locals.get("self")), path)
    for entry in traceback.extract_tb(error.__traceback__):
        if not entry.filename.startswith((_OF_TORCH, _OURS, "<")):
            line = f"{Path(entry.filename).name}, line {entry.lineno}"
    return f"`{path}`" if path else type(twin).__name__, line


def _frames(error: Exception) -> Iterator[FrameType]:
    return (frame for frame, _ in traceback.walk_tb(error.__traceback__))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
