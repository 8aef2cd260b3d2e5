"""Sizes of pictures that a model takes, found by trying them on shapes alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from compresskit.errors import DataError
from compresskit.nested import held_tensors
from compresskit.profiling.counting.copies import copy_without_values, guard
from compresskit.profiling.counting.model_call import ModelCall

_MULTIPLES = (1, 2, 4, 8, 16, 32, 64)
_SMALL_SIDES = (32, 48, 64, 96, 128, 160, 192, 224, 256)
_SIDES = (32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)

_ASPECT = 4 / 3
"""Width over height of a picture that is described by its megapixels."""


@dataclass(frozen=True, slots=True)
class ValidSize:
    """A size that a model takes, and the number that its sides are multiples of."""

    multiple: int
    height: int
    width: int


def next_valid_size(model: nn.Module, call: ModelCall) -> ValidSize | None:
    """Return the next larger size that the model takes: a multiple of the least power of two whose multiples all fit.

    Returns None if there is no picture, or if not even multiples of 64 fit.
    """
    if (picture := call.picture_size()) is None:
        return None
    copy = copy_without_values(model)
    with guard(model):
        for multiple in _MULTIPLES:
            # an odd multiple: an even one would also fit if only every second one did
            if _output_size(copy, call.resize(*(_round_up(side, multiple, odd=True) for side in picture))) is not False:
                return ValidSize(multiple, *(_round_up(side, multiple) for side in picture))
    return None


def smallest_valid_call(model: nn.Module, call: ModelCall) -> ModelCall:
    """Return the call with the smallest square picture that the model takes, or unchanged if there is none."""
    picture = call.picture_size()
    if picture is None:
        return call
    copy = copy_without_values(model)
    with guard(model):
        for side in _SMALL_SIDES:
            small = call.resize(side, side)
            if side <= min(picture) and _output_size(copy, small) is not False:
                return small
    return call


def valid_sides(model: nn.Module, call: ModelCall, largest: int) -> Iterator[int]:
    """Yield sides of square pictures that the model takes, from small to large in steps of about half as much again."""
    copy = copy_without_values(model)
    for side in _SIDES:
        with guard(model):
            fits = _output_size(copy, call.resize(side, side)) is not False
        if fits and side <= largest:
            yield side


def resize_to_megapixels(models: Sequence[nn.Module], call: ModelCall, megapixels: float) -> ModelCall:
    """Return the call with a 4:3 picture of so many megapixels, rounded up to a size that all models take.

    The megapixels are those of a model's input or output, whichever is larger: a demosaicing network takes packed
    planes and returns a picture of twice their height and width, so its output gets this size.

    Raises:
        DataError: The models take no picture, or no size that all of them take was found.
    """
    picture = call.picture_size()
    if picture is None:
        raise DataError("--megapixels needs an input with height and width, such as --input 1x3x64x64")
    multiple, scale = 1, 1.0
    for model in models:
        valid = next_valid_size(model, call)
        if valid is None:
            raise DataError(
                f"--megapixels: {type(model).__name__} takes no size around {picture[0]}x{picture[1]} on shapes alone"
            )
        with guard(model):
            output = _output_size(copy_without_values(model), call.resize(valid.height, valid.width))
        multiple = max(multiple, valid.multiple)
        scale = max(scale, output[0] / valid.height) if isinstance(output, tuple) else scale
    height = (megapixels * 1e6 / _ASPECT) ** 0.5 / scale
    return call.resize(*(_round_up(round(side), multiple) for side in (height, height * _ASPECT)))


def _output_size(copy: nn.Module, call: ModelCall) -> tuple[int, int] | bool:
    """Return height and width of the output; True if it is not a picture, False if the model refuses the call."""
    on_meta = call.to_meta()
    try:
        with torch.no_grad():
            output = on_meta.run(copy)
    except Exception:  # noqa: BLE001  (any exception of the model's own code)
        return False
    first = next(held_tensors(output, objects=True), None)
    return (first.shape[-2], first.shape[-1]) if first is not None and first.ndim >= 4 else True


def _round_up(side: int, multiple: int, *, odd: bool = False) -> int:
    """Return the next multiple that is at least this side."""
    times = max(1, -(-side // multiple))
    return multiple * (times + 1 - times % 2 if odd else times)
