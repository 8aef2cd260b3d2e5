"""A frame of any size, tile by tile, in bounded memory.

Each tile is made together with its surroundings, as far as the module sees, and cut back: what is kept is what the
whole frame would have given. Tiles begin where tiles of the colour filter array begin, so every one has the same phase.
A frame whose sides do not fit the module is continued at the right and the bottom with copies of its last tile of the
array, and the picture is cut back.
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
    """A range along one side of a frame: what is kept, within what is looked at. In pixels."""

    start: int
    stop: int
    outer_start: int
    outer_stop: int

    @property
    def kept(self) -> slice:
        """What is kept, counted from where the looking starts."""
        return slice(self.start - self.outer_start, self.stop - self.outer_start)


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of a frame to make at once."""

    rows: Span
    columns: Span

    @property
    def pixels(self) -> int:
        """How many pixels it takes to make, surroundings included."""
        return _length(self.rows) * _length(self.columns)


@dataclass(frozen=True, slots=True)
class Grid:
    """How a frame is divided."""

    height: int
    """Of the frame, in pixels."""
    width: int
    period: int
    """Of its colour filter array."""
    rows: Sequence[Span]
    columns: Sequence[Span]

    def __iter__(self) -> Iterator[Tile]:
        return (Tile(rows, columns) for rows in self.rows for columns in self.columns)

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    @property
    def work(self) -> int:
        """Pixels made in all tiles together; what lies over the frame's own is made for the overlap."""
        return sum(map(_length, self.rows)) * sum(map(_length, self.columns))

    def cut(self, frame: Shaped[np.ndarray, "h w"], tile: Tile) -> Shaped[np.ndarray, "h2 w2"]:
        """The part of the frame that a tile looks at, continued past the frame's sides where it goes beyond them."""
        rows = _continued(tile.rows, self.height, self.period)
        columns = _continued(tile.columns, self.width, self.period)
        return frame[rows[:, None], columns]


def divide(height: int, width: int, *, period: int, reach: int, most: int, multiple: int = 1, least: int = 1) -> Grid:
    """The division of a frame into tiles of at most so many pixels that takes the least work.

    Args:
        height: Of the frame, in pixels.
        width: Of the frame, in pixels.
        period: Of the colour filter array.
        reach: How many pixels past a tile must be looked at; see `zoo.frames.reach.reach`.
        most: Pixels that may be made at once, surroundings included.
        multiple: Sides of what is made must be multiples of this too.
        least: Smallest side of what is made.

    Raises:
        DataError: The frame is smaller than one tile of the array, or `most` is too few for a tile with its
            surroundings.
    """
    if min(height, width) < period:
        raise DataError(f"a frame of {height}x{width} pixels is smaller than one tile of its array, {period}x{period}")
    unit = math.lcm(period, multiple)
    reach, least = (-(-pixels // unit) * unit for pixels in (reach, least))
    full_height, full_width = (max(-(-side // unit) * unit, least) for side in (height, width))
    grids: list[Grid] = []
    for rows in _divisions(height, full_height, unit, reach, least):
        for columns in _divisions(width, full_width, unit, reach, least):
            if max(map(_length, rows)) * max(map(_length, columns)) <= most:
                grids.append(Grid(height, width, period, rows, columns))
                break  # more columns are more work
    if not grids:
        side = smallest_side(period=period, reach=reach, multiple=multiple, least=least)
        raise DataError(f"{most} pixels at once are too few: a tile with its surroundings takes {side}x{side}")
    return min(grids, key=lambda grid: (grid.work, len(grid)))


def smallest_side(*, period: int, reach: int, multiple: int = 1, least: int = 1) -> int:
    """Side in pixels of the smallest tile together with its surroundings."""
    unit = math.lcm(period, multiple)
    return max(unit + 2 * -(-reach // unit) * unit, -(-least // unit) * unit)


def make(
    develop: Callable[[Shaped[np.ndarray, "h w"]], Tensor],
    frame: Shaped[np.ndarray, "h w"],
    grid: Grid,
    *,
    advance: Callable[[int], None] | None = None,
) -> Shaped[np.ndarray, "h w *channels"]:
    """A whole picture, tile by tile.

    Args:
        develop: From a part of the frame to its picture (height, width) or (height, width, channels).
        frame: The mosaic.
        grid: How it is divided.
        advance: Is told how many pixels more are made, after each tile.
    """
    picture: np.ndarray | None = None
    for tile in grid:
        part = develop(grid.cut(frame, tile)).numpy()
        if picture is None:
            picture = np.empty((grid.height, grid.width, *part.shape[2:]), part.dtype)
        rows, columns = slice(tile.rows.start, tile.rows.stop), slice(tile.columns.start, tile.columns.stop)
        kept = part[tile.rows.kept, tile.columns.kept]
        inside = picture[rows, columns]  # the last tiles may end past the frame
        inside[...] = kept[: inside.shape[0], : inside.shape[1]]
        if advance is not None:
            advance(tile.pixels)
    assert picture is not None
    return picture


def _length(span: Span) -> int:
    return span.outer_stop - span.outer_start


def _divisions(side: int, full: int, unit: int, reach: int, least: int) -> Iterator[list[Span]]:
    """One side in 1, 2, 3, … equal parts, as far as parts get smaller."""
    before = 0
    for count in range(1, -(-side // unit) + 1):
        length = -(-side // (count * unit)) * unit
        if length != before:
            yield [_span(start, min(start + length, full), full, reach, least) for start in range(0, side, length)]
        before = length


def _span(start: int, stop: int, full: int, reach: int, least: int) -> Span:
    outer_start, outer_stop = max(0, start - reach), min(full, stop + reach)
    outer_stop = min(full, max(outer_stop, outer_start + least))
    return Span(start, stop, max(0, min(outer_start, outer_stop - least)), outer_stop)


def _continued(span: Span, side: int, period: int) -> np.ndarray:
    """The frame's own rows, or columns, that the span's are taken from."""
    places = np.arange(span.outer_start, span.outer_stop)
    past = np.maximum(places - side, -1) // period + 1  # how many periods beyond the last whole one
    return places - past * period
