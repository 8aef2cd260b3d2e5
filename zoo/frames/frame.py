"""A mosaic as its file states it, and the repair of its defect pixels."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Shaped

from compresskit.errors import DataError
from zoo.raw.sensor.cfa import CFA
from zoo.raw.sensor.encoding import Domain

Gains = tuple[float, float, float]
"""Factors for red, green and blue."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A mosaic in the numbers of its file. None means that the file does not state it."""

    name: str
    """The file's name without its ending."""
    values: Shaped[np.ndarray, "h w"]
    cfa: CFA | None = None
    """The array, with the phase of the first pixel."""
    black: float | None = None
    """The number that means no light."""
    white: float | None = None
    """The number where a pixel is full."""
    gains: Gains | None = None
    """White balance."""
    domain: Domain = "linear"
    """The encoding of light in the numbers between black and white."""
    turn: int = 0
    """Quarter turns, counterclockwise, that put the picture upright."""


def repair_defects(
    values: Shaped[np.ndarray, "h w"], defects: Bool[np.ndarray, "h2 w2"], cfa: CFA
) -> Shaped[np.ndarray, "h w"]:
    """Return a copy in which each defect pixel has the mean of the nearest sound pixels of its colour.

    The nearest are those in the smallest square around it that holds any: in arrays of blocks mostly those of its own
    block.

    Raises:
        DataError: The map has another size, or leaves a defect without any sound neighbour within two periods.
    """
    if defects.shape != values.shape:
        raise DataError(f"the map of defects is {_size(defects)} pixels, the frame {_size(values)}")
    repaired, height, width = values.copy(), *values.shape
    colours = np.array([list(row) for row in cfa.tile])
    for row, column in np.argwhere(defects):
        for radius in range(1, 2 * cfa.period + 1):
            rows = np.arange(max(0, row - radius), min(height, row + radius + 1))
            columns = np.arange(max(0, column - radius), min(width, column + radius + 1))
            colour = colours[np.ix_(rows % cfa.period, columns % cfa.period)]
            sound = (colour == colours[row % cfa.period, column % cfa.period]) & ~defects[np.ix_(rows, columns)]
            if sound.any():
                mean = values[np.ix_(rows, columns)][sound].mean(dtype=np.float64)
                repaired[row, column] = mean if values.dtype.kind == "f" else round(mean)
                break
        else:
            raise DataError(f"the map of defects leaves no sound pixel around row {row}, column {column}")
    return repaired


def _size(array: np.ndarray) -> str:
    return "x".join(map(str, array.shape))
