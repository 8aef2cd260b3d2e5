"""Receptive field, by a probe: one column of the input becomes NaN, and the columns of the output that turn NaN saw it.

NaN passes through every sum and product, so the answer is exact for any weights, and one forward without gradients is
enough. Where normalisation, attention or global pooling mixes the whole picture, all of the output turns NaN.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from compresskit.errors import DataError
from compresskit.profiling.counting.copies import real_copy, untouched
from compresskit.profiling.counting.model_call import Call
from compresskit.profiling.counting.sizes import fitting_sides
from compresskit.profiling.counting.tensors import OBJECTS, tensors_in

_NO_PICTURE = "the output is no picture"


LARGEST = 1024
"""Side of the largest picture that is tried."""


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """How far one position of the input reaches, which by symmetry is how far one of the output sees."""

    rows: int | None
    """Rows of the output that one row of the input reaches; None where it reaches all."""
    columns: int | None
    input_rows: int | None
    """The same in rows of the input, rounded up where the output has fewer."""
    input_columns: int | None
    cause: str | None
    """What first spreads one position over the whole picture; None where the picture may just be too small."""
    probed_at: tuple[int, int]
    """Height and width of the input."""

    @property
    def is_global(self) -> bool:
        """Whether one position reached all of the output."""
        return self.rows is None or self.columns is None

    def __str__(self) -> str:
        if not self.is_global:
            return f"{self.input_rows}x{self.input_columns}"
        return f"global ({self.cause})" if self.cause else f"beyond {self.probed_at[0]}x{self.probed_at[1]}"


def receptive_field(model: nn.Module, call: Call, *, max_seconds: float = 30.0) -> ReceptiveField:
    """Probe a copy of `model` on the CPU, at growing sizes until the field lies inside the picture.

    Args:
        model: Any module that takes a picture; run in eval mode.
        call: Its inputs; of pictures, only the type and the axes before height and width matter.
        max_seconds: A size that would take longer is not tried.

    Raises:
        DataError: The model takes no picture.
    """
    if call.frame() is None:
        raise DataError("--receptive-field needs an input with height and width, such as --input 1x3x64x64")
    copied, found, seconds_a_pixel = real_copy(model, "cpu"), None, 0.0
    with untouched(model), torch.inference_mode():
        for side in fitting_sides(model, call, LARGEST):
            if found is not None and seconds_a_pixel * side**2 > max_seconds:
                break
            start, before = perf_counter(), found
            found = _probed(copied, call.resized(side, side).on("cpu"))
            seconds_a_pixel = (perf_counter() - start) / side**2
            if not found.is_global or (before is not None and found.cause is not None and found.cause == before.cause):
                return found
    if found is None:
        raise DataError(f"--receptive-field: {type(model).__name__} takes no square picture of up to {LARGEST} pixels")
    return found


def _probed(model: nn.Module, call: Call) -> ReceptiveField:
    height, width = call.frame() or (0, 0)
    rows, cause = _reach(model, call, axis=-2)
    columns, other_cause = _reach(model, call, axis=-1)
    sides = (None if rows is None else rows[0], None if columns is None else columns[0])
    in_input = (None if rows is None else rows[1], None if columns is None else columns[1])
    return ReceptiveField(*sides, *in_input, cause or other_cause, (height, width))


def _reach(model: nn.Module, call: Call, axis: int) -> tuple[tuple[int, int] | None, str | None]:
    """The reach along an axis in positions of the output and of the input; None and the cause where it is all.

    A network that halves its resolution treats neighbouring positions differently, so as many are probed as become one.
    """
    side = (call.frame() or (0, 0))[axis]
    most, shrinks, grows, done = 0, 1, 1, 0
    while done < shrinks:
        with _first_global(model, axis) as causes:
            output = _first_picture(model, call, side // 2 + done, axis)
        if output is None:
            return None, _NO_PICTURE
        seen = _seen(output, axis)
        if len(seen) == 0:
            return (0, 0), None
        if seen[0] == 0 or seen[-1] == output.shape[axis] - 1:
            # what has a kernel only reached both borders: in a larger picture it may not
            local = not causes or hasattr(causes[0][1], "kernel_size")
            return None, None if local else f"{type(causes[0][1]).__name__} {causes[0][0]}".strip()
        size = output.shape[axis]  # borders may be lost besides, so the factors are rounded
        shrinks, grows = max(1, round(side / size)), max(1, round(size / side))
        most, done = max(most, seen[-1] - seen[0] + 1), done + 1
    return (most, -(-most * shrinks // grows)), None


def _first_picture(model: nn.Module, call: Call, position: int, axis: int) -> Tensor | None:
    """What the model makes of a picture with NaN at one position of an axis."""
    marked = False

    def mark(tensor: Tensor) -> Tensor:
        nonlocal marked
        if marked or tensor.ndim < 4 or not tensor.is_floating_point():
            return tensor
        marked, copied = True, tensor.clone()
        copied.select(axis, position).fill_(torch.nan)
        return copied

    placed = call.mapped(mark)
    output = model(*placed.args, **placed.kwargs)
    return next((tensor for tensor in tensors_in(output, objects=OBJECTS) if tensor.ndim >= 4), None)


def _seen(output: Tensor, axis: int) -> list[int]:
    """Positions along an axis at which anything is NaN."""
    others = [dimension for dimension in range(output.ndim) if dimension != output.ndim + axis]
    return output.isnan().any(dim=others).nonzero().flatten().tolist()


@contextmanager
def _first_global(model: nn.Module, axis: int) -> Iterator[list[tuple[str, nn.Module]]]:
    """Collects the modules that make a picture NaN from end to end out of one that was not, in the order they run."""
    found: list[tuple[str, nn.Module]] = []
    handles = [
        module.register_forward_hook(partial(_note_global, found, path, axis))
        for path, module in model.named_modules()
        if not isinstance(module, torch.jit.ScriptModule)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _note_global(
    found: list[tuple[str, nn.Module]], path: str, axis: int, module: nn.Module, args: Sequence[Any], output: Any
) -> None:
    before = [_is_full(tensor, axis) for tensor in tensors_in(args)]
    if before and not any(before) and any(_is_full(tensor, axis) for tensor in tensors_in(output)):
        found.append((path, module))


def _is_full(tensor: Tensor, axis: int) -> bool:
    """Whether every position along an axis holds NaN; what is no picture is full as soon as it holds any."""
    if not tensor.is_floating_point():
        return False
    return bool(tensor.isnan().any()) if tensor.ndim < 4 else len(_seen(tensor, axis)) == tensor.shape[axis]
