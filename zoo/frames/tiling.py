"""A frame of any size, tile by tile, in bounded memory.

Each tile is made together with its surroundings, as far as the module sees, and cut back: the rest is what the whole
frame would have given. Tiles begin where tiles of the colour filter array begin, so all have the same phase. A frame
whose sides do not fit the module is continued at the right and the bottom with copies of its last tile of the array,
and the picture is cut back.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped
from torch import Tensor

from compresskit.errors import DataError


@dataclass(frozen=True, slots=True)
class Span:
    """A range of pixels along one side of a frame, within a larger range with its surroundings."""

    start: int
    stop: int
    outer_start: int
    outer_stop: int

    @property
    def inner(self) -> slice:
        """The range without surroundings, counted from where the surroundings start."""
        return slice(self.start - self.outer_start, self.stop - self.outer_start)


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of a frame that is made at once."""

    rows: Span
    columns: Span

    @property
    def pixels(self) -> int:
        """Number of pixels, surroundings included."""
        return _length(self.rows) * _length(self.columns)


@dataclass(frozen=True, slots=True)
class Tiling:
    """The division of a frame into tiles."""

    height: int
    """Height of the frame in pixels."""
    width: int
    period: int
    """Period of its colour filter array."""
    rows: Sequence[Span]
    columns: Sequence[Span]

    def __iter__(self) -> Iterator[Tile]:
        return (Tile(rows, columns) for rows in self.rows for columns in self.columns)

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    @property
    def work(self) -> int:
        """Pixels of all tiles together; the part beyond the frame's own pixels is the price of the overlap."""
        return sum(map(_length, self.rows)) * sum(map(_length, self.columns))

    def cut(self, frame: Shaped[np.ndarray, "h w"], tile: Tile) -> Shaped[np.ndarray, "h2 w2"]:
        """Return the part of a frame under a tile with its surroundings, continued past the frame's sides."""
        rows = _indices(tile.rows, self.height, self.period)
        columns = _indices(tile.columns, self.width, self.period)
        return frame[rows[:, None], columns]


def divide(height: int, width: int, *, period: int, reach: int, most: int, multiple: int = 1, least: int = 1) -> Tiling:
    """Return the division of a frame, into tiles of at most `most` pixels, that takes the least work.

    Args:
        height: Height of the frame in pixels.
        width: Width of the frame in pixels.
        period: Period of the colour filter array.
        reach: Pixels of surroundings that a tile needs on each side; see `zoo.frames.reach.reach`.
        most: Pixels that may be made at once, surroundings included.
        multiple: Another number that must divide the sides of a tile with its surroundings.
        least: Smallest side of a tile with its surroundings.

    Raises:
        DataError: The frame is smaller than one tile of the array, or `most` is too few for a tile with its
            surroundings.
    """
    if min(height, width) < period:
        raise DataError(f"a frame of {height}x{width} pixels is smaller than one tile of its array, {period}x{period}")
    unit = math.lcm(period, multiple)
    reach, least = (-(-pixels // unit) * unit for pixels in (reach, least))
    full_height, full_width = (max(-(-side // unit) * unit, least) for side in (height, width))
    tilings: list[Tiling] = []
    for rows in _divisions(height, full_height, unit, reach, least):
        for columns in _divisions(width, full_width, unit, reach, least):
            if max(map(_length, rows)) * max(map(_length, columns)) <= most:
                tilings.append(Tiling(height, width, period, rows, columns))
                break  # more columns are more work
    if not tilings:
        side = smallest_side(period=period, reach=reach, multiple=multiple, least=least)
        raise DataError(f"{most} pixels at once are too few: a tile with its surroundings takes {side}x{side}")
    return min(tilings, key=lambda tiling: (tiling.work, len(tiling)))


def smallest_side(*, period: int, reach: int, multiple: int = 1, least: int = 1) -> int:
    """Return the side in pixels of the smallest tile with its surroundings."""
    unit = math.lcm(period, multiple)
    return max(unit + 2 * -(-reach // unit) * unit, -(-least // unit) * unit)


def run_tiles(
    develop: Callable[[Shaped[np.ndarray, "h w"]], Tensor],
    frame: Shaped[np.ndarray, "h w"],
    tiling: Tiling,
    *,
    advance: Callable[[int], None] | None = None,
) -> Shaped[np.ndarray, "h w *channels"]:
    """Make a whole picture, tile by tile.

    Args:
        develop: Function from a part of the frame to its picture, (height, width) or (height, width, channels).
        frame: The mosaic.
        tiling: The mosaic's division.
        advance: Function that is called after each tile with the tile's number of pixels.
    """
    picture: np.ndarray | None = None
    for tile in tiling:
        part = develop(tiling.cut(frame, tile)).numpy()
        if picture is None:
            picture = np.empty((tiling.height, tiling.width, *part.shape[2:]), part.dtype)
        rows, columns = slice(tile.rows.start, tile.rows.stop), slice(tile.columns.start, tile.columns.stop)
        inner = part[tile.rows.inner, tile.columns.inner]
        target = picture[rows, columns]  # the last tiles may end past the frame
        target[...] = inner[: target.shape[0], : target.shape[1]]
        if advance is not None:
            advance(tile.pixels)
    assert picture is not None
    return picture


def _length(span: Span) -> int:
    return span.outer_stop - span.outer_start


def _divisions(side: int, full: int, unit: int, reach: int, least: int) -> Iterator[list[Span]]:
    """Yield one side in 1, 2, 3, … equal parts, until parts get no smaller."""
    previous = 0
    for count in range(1, -(-side // unit) + 1):
        length = -(-side // (count * unit)) * unit
        if length != previous:
            yield [_span(start, min(start + length, full), full, reach, least) for start in range(0, side, length)]
        previous = length


def _span(start: int, stop: int, full: int, reach: int, least: int) -> Span:
    outer_start, outer_stop = max(0, start - reach), min(full, stop + reach)
    outer_stop = min(full, max(outer_stop, outer_start + least))
    return Span(start, stop, max(0, min(outer_start, outer_stop - least)), outer_stop)


def _indices(span: Span, side: int, period: int) -> np.ndarray:
    """Return the frame's row, or column, for each position of a span that may end past the frame."""
    positions = np.arange(span.outer_start, span.outer_stop)
    periods_back = np.maximum(positions - side, -1) // period + 1
    return positions - periods_back * period
