"""Causes of a failed forward: the module, the line, and a size or a device that would work."""

import os
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from compresskit.errors import DataError, ShapeError, first_line
from compresskit.profiling.counting.model_call import ModelCall
from compresskit.profiling.counting.sizes import next_valid_size
from compresskit.units import shape_text

_TORCH_FOLDER = f"{Path(torch.__file__).parent}{os.sep}"
_OWN_FOLDER = f"{Path(__file__).parents[1]}{os.sep}"

_ABOUT_VALUES = re.compile(
    r"meta tensor|on meta|meta device|device meta|\bmeta\b.*(device|type)|item\(\)|numpy|[Ff]ake|data.dependent|"
    r"not have (an )?accessible|same device|data pointer|no data|[Mm]eta implementation|'Meta' backend"
)

_ABOUT_SIZES = (
    re.compile(r"Expected size (\d+) but got size (\d+)"),
    re.compile(r"Expected (\d+) in dimension \d+ but got (\d+)"),
    re.compile(r"broadcast a dimension of length (\d+) at .* broadcastable to \[(?:\d+, )*(\d+)\]"),
    re.compile(r"size of tensor a \((\d+)\) must match the size of tensor b \((\d+)\)"),
)

_ABOUT_CHANNELS = re.compile(
    r"expected input.* to have \d+ channels|cannot be multiplied|same reduction dim|Invalid channel"
)

_INPUT_ERRORS = (RuntimeError, ValueError, AssertionError, IndexError)
"""Exceptions that torch and careful models raise about inputs; any other is a bug and keeps its traceback."""


def needs_values(error: Exception) -> bool:
    """Return whether a forward failed because its tensors have no values, or because of a device that it names."""
    return isinstance(error, NotImplementedError) or bool(_ABOUT_VALUES.search(str(error)))


def is_about_shapes(error: Exception) -> bool:
    """Return whether a forward failed because two sizes do not fit: it would fail on any device."""
    return isinstance(error, _INPUT_ERRORS) and (
        _unequal_sizes(error) is not None or bool(_ABOUT_CHANNELS.search(str(error)))
    )


def missing_values_error(error: Exception, copy: nn.Module, limit: int) -> DataError:
    """Return the error for a model whose Python reads values, if its inputs are too large for a real run by default.

    Args:
        error: Exception of the forward of `copy`.
        copy: Copy of the model that ran.
        limit: Pixels up to which a model runs for real by default.
    """
    module, line = _location(error, copy)
    return DataError(
        f"{module} needs values at {line}, and tensors with shapes alone have none: {first_line(error)[:200]}\n"
        f"Profile a smaller input (up to {limit:,} pixels run for real), or pass --device cpu to run this one"
    )


def explain(error: Exception, copy: nn.Module, model: nn.Module, call: ModelCall) -> Exception:
    """Return a `ShapeError` that explains an exception about the inputs; any other exception is returned itself.

    Args:
        error: Exception of the forward of `copy`.
        copy: Copy of the model that ran.
        model: Model to try other sizes with.
        call: Inputs of the forward.
    """
    if not isinstance(error, _INPUT_ERRORS):
        return error
    if (wrong_channels := _wrong_channels(error, copy)) is not None:
        return ShapeError(wrong_channels)
    module, line = _location(error, copy)
    picture, sizes = call.picture_size(), _unequal_sizes(error)
    if picture is not None and sizes is not None:
        valid = next_valid_size(model, call)
        hint = ""
        if valid is not None and (valid.height, valid.width) != picture:
            hint = f"; try a multiple of {valid.multiple} ({valid.height}x{valid.width})"
        return ShapeError(f"input {picture[0]}x{picture[1]} fails at {module}: sizes {sizes[0]} and {sizes[1]}{hint}")
    return ShapeError(f"input {', '.join(call.describe())} fails at {module} ({line}): {first_line(error)[:200]}")


def _unequal_sizes(error: Exception) -> tuple[str, str] | None:
    for pattern in _ABOUT_SIZES:
        if match := pattern.search(str(error)):
            return match[1], match[2]
    return None


def _wrong_channels(error: Exception, copy: nn.Module) -> str | None:
    """Return a sentence if a layer got another number of channels or features than it takes."""
    paths = {id(module): path for path, module in copy.named_modules()}
    for frame in _frames(error):
        module, features = frame.f_locals.get("self"), frame.f_locals.get("input")
        if id(module) not in paths or not isinstance(features, Tensor):
            continue
        for attribute, noun, axis in (
            ("in_channels", "channels", _channel_axis(module)),
            ("in_features", "features", -1),
        ):
            expected = getattr(module, attribute, None)
            if expected is not None and features.ndim >= -axis and features.shape[axis] != expected:
                path = f"`{paths[id(module)]}`" if paths[id(module)] else type(copy).__name__
                return (
                    f"{path} takes {expected} {noun}, got {features.shape[axis]} (input {shape_text(features.shape)})"
                )
    return None


def _channel_axis(module: Any) -> int:
    """Return the axis of channels, counted from the end: a picture may come without a batch."""
    return -1 - len(getattr(module, "kernel_size", ()))


def _location(error: Exception, copy: nn.Module) -> tuple[str, str]:
    """Return the innermost module in which an error arose, and the last line outside of torch: `model.py, line 12`."""
    paths = {id(module): path for path, module in copy.named_modules()}
    path, line = "", "an unknown line"
    for frame in _frames(error):
        path = paths.get(id(frame.f_locals.get("self")), path)
    for entry in traceback.extract_tb(error.__traceback__):
        if not entry.filename.startswith((_TORCH_FOLDER, _OWN_FOLDER, "<")):
            line = f"{Path(entry.filename).name}, line {entry.lineno}"
    return f"`{path}`" if path else type(copy).__name__, line


def _frames(error: Exception) -> Iterator[FrameType]:
    return (frame for frame, _ in traceback.walk_tb(error.__traceback__))
