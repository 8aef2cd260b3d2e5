"""The development of each part of a frame: from a mosaic's numbers to those of a picture, or of another mosaic."""

import itertools
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from compresskit.errors import DataError
from compresskit.nested import device_of
from zoo.frames.levels import Levels
from zoo.raw.sensor.cfa import CFA
from zoo.raw.sensor.encoding import Domain, convert

Finish = Callable[[Float[Tensor, "3 h w"]], Tensor]
"""Function from a picture in the working domain to the numbers to be stored."""


@dataclass(frozen=True, kw_only=True)
class Development:
    """Levels, white balance, the working domain, demosaicing, and the result's own numbers, in this order."""

    module: nn.Module
    """A module from packed mosaics to pictures, in eval mode."""
    levels: Levels
    source: Domain
    """Domain of the frame's values once levels are applied."""
    working: Domain
    """Domain that the module was trained or designed for."""
    finish: Finish
    highest: float | None = 1.0
    """Limit at which values are cut off: a full pixel's colour is not known, and balanced it would tint highlights."""

    half: bool = False
    """True runs the module's convolutions and products in bfloat16."""

    @torch.inference_mode()
    def __call__(self, numbers: Shaped[np.ndarray, "h w"]) -> Shaped[Tensor, "h w *channels"]:
        """Develop a part of the frame that begins where a tile of the array begins.

        Raises:
            DataError: The module makes NaN or infinite values.
        """
        packed = self.pack(numbers)
        with torch.autocast(packed.device.type, dtype=torch.bfloat16) if self.half else nullcontext():
            picture = self.module(packed)
        picture = picture[0].float().cpu()
        if not picture.isfinite().all():
            raise DataError(f"{type(self.module).__name__} makes NaN or infinite values of this frame")
        return self.finish(picture)

    def pack(self, numbers: Shaped[np.ndarray, "h w"]) -> Float[Tensor, "1 4 h2 w2"]:
        """Return the module's input for a part of the frame."""
        values = self.levels.apply(numbers)
        values = values if self.highest is None else values.clamp(max=self.highest)
        packed = self.levels.cfa.pack(convert(values, self.source, self.working)[None, None])
        return packed.to(device_of(self.module)).contiguous(memory_format=torch.channels_last)


def picture_of(working: Domain, target: Domain, bits: int | None) -> Finish:
    """Return the last step to a picture (height, width, 3) in the domain `target`.

    Its numbers are uint8 or uint16, whose largest is white, or float32 as they are if `bits` is None.
    """

    def finish(picture: Float[Tensor, "3 h w"]) -> Shaped[Tensor, "h w 3"]:
        values = convert(picture, working, target).movedim(0, -1)
        return values if bits is None else _to_integers(values.clamp(0, 1) * (2**bits - 1), bits)

    return finish


def mosaic_of(working: Domain, source: Domain, levels: Levels, cfa: CFA) -> Finish:
    """Return the last step to a mosaic (height, width) of another array, in uint16.

    Its numbers are the frame's: its levels, without the white balance.
    """

    def finish(picture: Float[Tensor, "3 h w"]) -> Shaped[Tensor, "h w"]:
        mosaic = cfa.mosaic(convert(picture, working, source)[None])[0, 0]
        return _to_integers(levels.undo(mosaic, cfa).clamp(0, levels.white), 16)

    return finish


def scale_gains(levels: Levels, *, largest: bool) -> Levels:
    """Return the same levels with gains scaled so that the smallest is 1, or the largest.

    With the smallest at 1 a full pixel stays full in every colour; with the largest at 1 nothing is cut off.
    """
    one = max(levels.gains) if largest else min(levels.gains)
    red, green, blue = (gain / one for gain in levels.gains)
    return replace(levels, gains=(red, green, blue))


def align_phase(
    numbers: Shaped[np.ndarray, "h w"], cfa: CFA, target: CFA
) -> tuple[Shaped[np.ndarray, "h2 w2"], tuple[int, int]]:
    """Return a mosaic that begins with the phase that a network was trained on, and the added rows and columns.

    The added rows at the top and columns at the left are copies of the array's first tile; cut them off the picture.

    Raises:
        DataError: The arrays differ in more than the phase.
    """
    period = cfa.period
    for top, left in itertools.product(range(period), repeat=2):
        if cfa.rolled(top, left) == target:
            rows, columns = (
                np.concatenate([np.arange(period - more, period), np.arange(side)])
                for more, side in zip((top, left), numbers.shape, strict=True)
            )
            return numbers[rows[:, None], columns] if top or left else numbers, (top, left)
    raise DataError(f"the method is for {target}, the mosaic is of {cfa}; give other weights, or another --method")


def _to_integers(values: Tensor, bits: int) -> Tensor:
    return values.round().to(torch.uint8 if bits == 8 else torch.uint16)
