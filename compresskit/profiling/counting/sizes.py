"""Sizes of pictures that a model takes, found by trying them on shapes alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from compresskit.errors import DataError
from compresskit.profiling.counting.copies import untouched, weightless
from compresskit.profiling.counting.model_call import Call
from compresskit.profiling.counting.tensors import OBJECTS, tensors_in

_MULTIPLES = (1, 2, 4, 8, 16, 32, 64)


_SMALL = (32, 48, 64, 96, 128, 160, 192, 224, 256)


_ASPECT = 4 / 3
"""Width over height of the picture that a number of megapixels means."""


@dataclass(frozen=True, slots=True)
class Fitting:
    """A size that fits, and what it is a multiple of."""

    multiple: int
    height: int
    width: int


def next_fitting(model: nn.Module, call: Call) -> Fitting | None:
    """The next larger frame that the model takes: a multiple of the least power of two for which all multiples do.

    None where there is no picture, or no such size up to multiples of 64.
    """
    if (frame := call.frame()) is None:
        return None
    twin = weightless(model)
    with untouched(model):
        for multiple in _MULTIPLES:
            # an odd multiple, or one would not see that only every second one fits
            if _output_frame(twin, call.resized(*(_up(side, multiple, odd=True) for side in frame))) is not False:
                return Fitting(multiple, *(_up(side, multiple) for side in frame))
    return None


def smallest_fitting(model: nn.Module, call: Call) -> Call:
    """The call with the smallest square picture that the model takes, or as it is where none was found."""
    frame = call.frame()
    if frame is None:
        return call
    twin = weightless(model)
    with untouched(model):
        for side in _SMALL:
            small = call.resized(side, side)
            if side <= min(frame) and _output_frame(twin, small) is not False:
                return small
    return call


def fitting_sides(model: nn.Module, call: Call, largest: int) -> Iterator[int]:
    """Sides of square pictures that the model takes, from small to large in steps of half as much again."""
    twin = weightless(model)
    for side in (32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024):
        with untouched(model):
            fits = _output_frame(twin, call.resized(side, side)) is not False
        if fits and side <= largest:
            yield side


def of_megapixels(models: Sequence[nn.Module], call: Call, megapixels: float) -> Call:
    """The call with a picture of four to three and so many megapixels, rounded up to a size that all models take.

    The picture is a model's input or its output, whichever is larger: a demosaicing network that is given packed planes
    and puts out twice their height and width is asked for an output of this size.

    Raises:
        DataError: The models take no picture, or no size was found that they take.
    """
    frame = call.frame()
    if frame is None:
        raise DataError("--megapixels needs an input with height and width, such as --input 1x3x64x64")
    multiple, larger = 1, 1.0
    for model in models:
        found = next_fitting(model, call)
        if found is None:
            raise DataError(
                f"--megapixels: {type(model).__name__} takes no size around {frame[0]}x{frame[1]} on shapes alone"
            )
        with untouched(model):
            output = _output_frame(weightless(model), call.resized(found.height, found.width))
        multiple = max(multiple, found.multiple)
        larger = max(larger, output[0] / found.height) if isinstance(output, tuple) else larger
    height = (megapixels * 1e6 / _ASPECT) ** 0.5 / larger
    return call.resized(*(_up(round(side), multiple) for side in (height, height * _ASPECT)))


def _output_frame(twin: nn.Module, call: Call) -> tuple[int, int] | bool:
    """Height and width of what comes out; True if that is no picture, False if the model refuses."""
    placed = call.on_meta()
    try:
        with torch.no_grad():
            output = twin(*placed.args, **placed.kwargs)
    except Exception:  # noqa: BLE001  (whatever a model's own code raises)
        return False
    first = next(tensors_in(output, objects=OBJECTS), None)
    return (first.shape[-2], first.shape[-1]) if first is not None and first.ndim >= 4 else True


def _up(side: int, multiple: int, *, odd: bool = False) -> int:
    """The next multiple of at least this side."""
    times = max(1, -(-side // multiple))
    return multiple * (times + 1 - times % 2 if odd else times)
