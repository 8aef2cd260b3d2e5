"""A mosaic as its file states it, its turn upright, and the repair of its defect pixels."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Shaped

from compresskit.errors import DataError
from zoo.raw.sensor.cfa import CFA
from zoo.raw.sensor.encoding import Domain

Gains = tuple[float, float, float]
"""Factors for red, green and blue."""


Shading = Callable[[int, int], Float32[np.ndarray, "h w"]]
"""Function from a range of rows, its start and its end, to the gain of each of their pixels."""


MOST_PIXELS = 500_000_000
"""Most pixels of a frame: more than twice today's largest sensors. A file that claims more is damaged, or an attack."""


@dataclass(frozen=True, kw_only=True)
class BlackLevels:
    """Numbers that mean no light, by place."""

    tile: Float[np.ndarray, "h w"]
    """Levels of a tile that repeats over the frame."""
    by_row: Float[np.ndarray, " rows"] | None = None
    """Numbers that are added for each row."""
    by_column: Float[np.ndarray, " columns"] | None = None
    largest: float
    """The largest level of any place, of those outside the frame, too: the range to white begins there."""

    @property
    def simplified(self) -> "float | BlackLevels":
        """The level of all places if they have the same."""
        if any(deltas is not None and deltas.any() for deltas in (self.by_row, self.by_column)):
            return self
        return self.largest if (self.tile == self.largest).all() else self

    def of_rows(self, start: int, stop: int, width: int) -> Float[np.ndarray, "h w"]:
        """Return the level of each pixel in a range of rows."""
        rows, columns = np.arange(start, stop) % self.tile.shape[0], np.arange(width) % self.tile.shape[1]
        levels = self.tile[np.ix_(rows, columns)]
        if self.by_row is not None:
            levels = levels + self.by_row[start:stop, None]
        return levels if self.by_column is None else levels + self.by_column


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A mosaic in the numbers of its file. None means that the file does not state it."""

    name: str
    """The file's name without its ending."""
    values: Shaped[np.ndarray, "h w"]
    cfa: CFA | None = None
    """The array, with the phase of the first pixel."""
    no_cfa: str = "does not say which array its sensor has"
    """The reason for no array: what follows the file's name in an error."""
    black: float | BlackLevels | None = None
    """The number that means no light, or one for each place."""
    white: float | None = None
    """The number where a pixel is full."""
    gains: Gains | None = None
    """White balance."""
    lacks_balance: bool = False
    """Files of this kind state a white balance, and this one does not."""
    domain: Domain = "linear"
    """The encoding of light in the numbers between black and white."""
    turn: int = 0
    """Quarter turns, counterclockwise, that put the picture upright."""
    mirrored: bool = False
    """The picture has left and right exchanged before it is turned."""
    shading: Shading | None = None
    """Gains that make up for the lens's shading, for light above black."""
    remarks: tuple[str, ...] = ()
    """Sentences, without the file's name, about what is or is not read and applied."""

    def upright(self, picture: Shaped[np.ndarray, "h w *channels"]) -> Shaped[np.ndarray, "h2 w2 *channels"]:
        """Return the frame's picture, mirrored and turned as the file states."""
        return np.rot90(picture[:, ::-1] if self.mirrored else picture, self.turn)


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
