"""Receptive field: one row or column of the input becomes NaN, and the positions of the output that turn NaN see it.

NaN passes through every sum and product, so the result is exact for any weights, and one forward without gradients is
enough. If normalisation, attention or global pooling mixes the whole picture, all of the output turns NaN.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from compresskit.errors import DataError
from compresskit.nested import held_tensors
from compresskit.profiling.counting.copies import copy_to, guard
from compresskit.profiling.counting.model_call import ModelCall
from compresskit.profiling.counting.sizes import valid_sides

LARGEST_SIDE = 1024
"""Side of the largest picture that is tried."""


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """Reach of one position of the input, which by symmetry is the part of the input that one output position sees."""

    rows: int | None
    """Rows of the output that one row of the input reaches; None if it reaches all."""
    columns: int | None
    """Columns of the output that one column of the input reaches; None if it reaches all."""
    input_rows: int | None
    """The same reach in rows of the input, rounded up if the output has fewer rows."""
    input_columns: int | None
    """The same reach in columns of the input."""
    cause: str | None
    """First module that spreads one position over the whole picture; None if the picture may just be too small."""
    probed_at: tuple[int, int]
    """Height and width of the input."""

    @property
    def is_global(self) -> bool:
        """True if one position reached all of the output."""
        return self.rows is None or self.columns is None

    def __str__(self) -> str:
        if not self.is_global:
            return f"{self.input_rows}x{self.input_columns}"
        return f"global ({self.cause})" if self.cause else f"beyond {self.probed_at[0]}x{self.probed_at[1]}"


def measure_receptive_field(model: nn.Module, call: ModelCall, *, max_seconds: float = 30.0) -> ReceptiveField:
    """Probe a copy of `model` on the CPU, at growing sizes until the field lies inside the picture.

    Args:
        model: Any module that takes a picture; the copy runs in eval mode.
        call: Its inputs; of pictures, only the type and the axes before height and width matter.
        max_seconds: Limit of one size; a size that would take longer is not tried.

    Raises:
        DataError: The model takes no picture.
    """
    if call.picture_size() is None:
        raise DataError("--receptive-field needs an input with height and width, such as --input 1x3x64x64")
    copy, field, seconds_per_pixel = copy_to(model, "cpu"), None, 0.0
    with guard(model), torch.inference_mode():
        for side in valid_sides(model, call, LARGEST_SIDE):
            if field is not None and seconds_per_pixel * side**2 > max_seconds:
                break
            start, smaller = perf_counter(), field
            field = _probe(copy, call.resize(side, side).to("cpu"), side)
            seconds_per_pixel = (perf_counter() - start) / side**2
            same_cause = smaller is not None and field.cause is not None and field.cause == smaller.cause
            if not field.is_global or same_cause:
                return field
    if field is None:
        raise DataError(
            f"--receptive-field: {type(model).__name__} takes no square picture of up to {LARGEST_SIDE} pixels"
        )
    return field


def footprint(
    function: Callable[[Tensor], Tensor], picture: Tensor, axis: int, start: int, length: int = 1, *, changes: int = 0
) -> Tensor:
    """Return a mask of the positions along an axis of the output that depend on a stripe of the input.

    The stripe becomes NaN, and what is NaN in the output depends on it: unlike a change of values, neither rounding nor
    a zero weight removes NaN. Comparisons lose it, so the stripe can also get other values, and then everything in the
    output that differs under NaN or under these values depends on it.

    Args:
        function: From a picture (..., height, width) to a picture with as many axes.
        picture: Input; it is not changed.
        axis: Axis of the stripe's positions: -2 for rows, -1 for columns.
        start: First position of the stripe.
        length: Positions of the stripe.
        changes: Number of further runs in which the stripe holds random values from 0 to 1.

    Returns:
        True or False for each position along the axis of the output.
    """
    marked = picture.clone()
    stripe = marked.narrow(axis, start, length)
    stripe.fill_(torch.nan)
    output = function(marked)
    affected = output.isnan()
    if changes:
        original, generator = function(picture), torch.Generator().manual_seed(1)
        affected |= output != original
        for _ in range(changes):
            stripe.copy_(torch.rand(stripe.shape, generator=generator))
            affected |= function(marked) != original
    return _any_along(affected, axis)


class _NoPictureError(Exception):
    """The output of a model holds no picture."""


def _probe(copy: nn.Module, call: ModelCall, side: int) -> ReceptiveField:
    rows, cause = _reach(copy, call, side, axis=-2)
    columns, other_cause = _reach(copy, call, side, axis=-1)
    in_output = (None if rows is None else rows[0], None if columns is None else columns[0])
    in_input = (None if rows is None else rows[1], None if columns is None else columns[1])
    return ReceptiveField(*in_output, *in_input, cause or other_cause, (side, side))


def _reach(copy: nn.Module, call: ModelCall, side: int, *, axis: int) -> tuple[tuple[int, int] | None, str | None]:
    """Return the reach along an axis in positions of the output and of the input, or None and the cause if it is all.

    A network that halves its resolution treats neighbouring positions differently, so all that become one are probed.
    """
    picture = next((tensor for tensor in call.tensors() if tensor.ndim >= 4 and tensor.is_floating_point()), None)
    if picture is None:
        return (0, 0), None
    largest, shrinks, grows, probed = 0, 1, 1, 0
    while probed < shrinks:
        try:
            with _modules_that_spread(copy, axis) as spreading:
                affected = footprint(_on_picture(copy, call, picture), picture, axis, side // 2 + probed)
        except _NoPictureError:
            return None, "the output is not a picture"
        seen, size = affected.nonzero().flatten().tolist(), len(affected)
        if not seen:
            return (0, 0), None
        if seen[0] == 0 or seen[-1] == size - 1:
            # a module with a kernel that reached both borders may not reach them in a larger picture
            local = not spreading or hasattr(spreading[0][1], "kernel_size")
            return None, None if local else f"{type(spreading[0][1]).__name__} {spreading[0][0]}".strip()
        shrinks, grows = max(1, round(side / size)), max(1, round(size / side))  # rounded: borders may be lost besides
        largest, probed = max(largest, seen[-1] - seen[0] + 1), probed + 1
    return (largest, -(-largest * shrinks // grows)), None


def _on_picture(copy: nn.Module, call: ModelCall, picture: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the model as a function of one picture of the call, to the first picture of the output."""

    def function(other: Tensor) -> Tensor:
        output = call.map(lambda tensor: other if tensor is picture else tensor).run(copy)
        result = next((tensor for tensor in held_tensors(output, objects=True) if tensor.ndim >= 4), None)
        if result is None:
            raise _NoPictureError
        return result

    return function


@contextmanager
def _modules_that_spread(copy: nn.Module, axis: int) -> Iterator[list[tuple[str, nn.Module]]]:
    """Collect, in the order of their calls, the modules whose output is NaN from end to end and whose input is not."""
    spreading: list[tuple[str, nn.Module]] = []
    handles = [
        module.register_forward_hook(partial(_note_if_spreading, spreading, path, axis))
        for path, module in copy.named_modules()
        if not isinstance(module, torch.jit.ScriptModule)
    ]
    try:
        yield spreading
    finally:
        for handle in handles:
            handle.remove()


def _note_if_spreading(
    spreading: list[tuple[str, nn.Module]], path: str, axis: int, module: nn.Module, args: Sequence[Any], output: Any
) -> None:
    before = [_is_nan_throughout(tensor, axis) for tensor in held_tensors(args)]
    if before and not any(before) and any(_is_nan_throughout(tensor, axis) for tensor in held_tensors(output)):
        spreading.append((path, module))


def _is_nan_throughout(tensor: Tensor, axis: int) -> bool:
    """Return whether every position along an axis holds NaN; for tensors that are not pictures, whether any does."""
    if not tensor.is_floating_point():
        return False
    return bool(tensor.isnan().any() if tensor.ndim < 4 else _any_along(tensor.isnan(), axis).all())


def _any_along(mask: Tensor, axis: int) -> Tensor:
    """Reduce a mask to one axis: True where any other position holds True."""
    others = [dimension for dimension in range(mask.ndim) if dimension != axis % mask.ndim]
    return mask.any(dim=others)
