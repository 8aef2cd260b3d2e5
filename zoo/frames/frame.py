"""A mosaic as it came from a file."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from compresskit.errors import DataError
from zoo.raw.sensor.cfa import CFA
from zoo.raw.sensor.encoding import Domain

Gains = tuple[float, float, float]


ABOVE_WHITE = 1e-3
"""Share of pixels that may lie above the white level: hot ones do, a frame of more bits than thought has more."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A mosaic in the numbers of its file. What the file does not say is None."""

    name: str
    """The file's, without its ending."""
    values: Shaped[np.ndarray, "h w"]
    cfa: CFA | None = None
    """Its phase is that of the first pixel."""
    black: float | None = None
    """The number that means no light."""
    white: float | None = None
    """The number where a pixel is full."""
    gains: Gains | None = None
    """White balance: what red, green and blue are multiplied by."""
    domain: Domain = "linear"
    """How the numbers between black and white stand for light."""
    turn: int = 0
    """Quarter turns against the clock that put the picture upright."""


@dataclass(frozen=True, kw_only=True)
class Levels:
    """All that turns a frame's numbers into values from 0, black, to 1, white, with its colours balanced."""

    cfa: CFA
    black: float
    white: float
    gains: Gains = (1.0, 1.0, 1.0)

    def apply(self, numbers: Shaped[np.ndarray, "h w"]) -> Float[Tensor, "h w"]:
        """Values of a part of a frame that begins where a tile of the array begins."""
        values = (numbers.astype(np.float32) - np.float32(self.black)) * np.float32(1 / (self.white - self.black))
        return self._each(torch.from_numpy(values), self.gains)

    def undo(self, values: Float[Tensor, "h w"], cfa: CFA) -> Float[Tensor, "h w"]:
        """The numbers of a mosaic of another array with the same levels."""
        plain = Levels(cfa=cfa, black=0.0, white=1.0)._each(values, tuple(1 / gain for gain in self.gains))  # noqa: SLF001
        return plain * (self.white - self.black) + self.black

    def _each(self, values: Tensor, gains: tuple[float, ...]) -> Tensor:
        if len(set(gains)) == 1:
            return values * gains[0]
        height, width = values.shape
        period = self.cfa.period
        tile = torch.stack([self.cfa.masks(period, period)[colour] * gains[colour] for colour in range(3)]).sum(0)
        return values * tile.repeat(-(-height // period), -(-width // period))[:height, :width]


def check(frame: Frame, levels: Levels) -> None:
    """Refuse a frame whose numbers cannot be what its levels say they are.

    Raises:
        DataError: White is not above black, there are NaN or infinite values, or many numbers lie above white.
    """
    if not levels.black < levels.white:
        raise DataError(f"{frame.name}: black {levels.black:g} must be below white {levels.white:g}")
    values = frame.values
    if values.dtype.kind == "f":
        unusable = sum(int((~np.isfinite(row)).sum()) for row in values)
        if unusable:
            raise DataError(
                f"{frame.name}: {unusable} of {values.size} values are NaN or infinite; map them as defects"
            )
    above = int((values > levels.white).sum())
    if above > ABOVE_WHITE * values.size:
        raise DataError(
            f"{frame.name}: {above / values.size:.1%} of the values are above the white level {levels.white:g}, up to "
            f"{values.max():g}; are there more bits than that? Give the right --white"
        )


def without_defects(
    values: Shaped[np.ndarray, "h w"], defects: Bool[np.ndarray, "h2 w2"], cfa: CFA
) -> Shaped[np.ndarray, "h w"]:
    """A copy in which each defect pixel has the mean of the nearest sound pixels of its colour.

    The nearest are those in the smallest square around it that holds any: in arrays of blocks mostly its own block's.

    Raises:
        DataError: The map has another size, or leaves a defect without any sound neighbour in reach of two periods.
    """
    if defects.shape != values.shape:
        raise DataError(f"the map of defects is {_size(defects)} pixels, the frame {_size(values)}")
    mended, height, width = values.copy(), *values.shape
    colours = np.array([list(row) for row in cfa.tile])
    for row, column in np.argwhere(defects):
        for radius in range(1, 2 * cfa.period + 1):
            rows = np.arange(max(0, row - radius), min(height, row + radius + 1))
            columns = np.arange(max(0, column - radius), min(width, column + radius + 1))
            colour = colours[np.ix_(rows % cfa.period, columns % cfa.period)]
            sound = (colour == colours[row % cfa.period, column % cfa.period]) & ~defects[np.ix_(rows, columns)]
            if sound.any():
                mean = values[np.ix_(rows, columns)][sound].mean(dtype=np.float64)
                mended[row, column] = mean if values.dtype.kind == "f" else round(mean)
                break
        else:
            raise DataError(f"the map of defects leaves nothing sound around row {row}, column {column}")
    return mended


def _size(array: np.ndarray) -> str:
    return "x".join(map(str, array.shape))
