"""Black levels of a camera file: by place of a tile, by row and by column; and the masked border as a check."""

import math

import numpy as np

from compresskit.errors import DataError
from zoo.frames.camera import tiff
from zoo.frames.camera.geometry import Geometry
from zoo.frames.camera.libraw import Decoded
from zoo.frames.camera.tiff import Page
from zoo.frames.frame import BlackLevels

FAR = 0.005
"""Share of the range by which the masked border may differ from the stated black without a word."""


def black_of(decoded: Decoded, geometry: Geometry) -> tuple[float | BlackLevels, list[str]]:
    """Return the black levels of the visible pixels, and remarks about them.

    Raises:
        DataError: The file states another number of levels than there are places, rows or columns.
    """
    page = geometry.page
    if page is None or page.first(tiff.SAMPLE_FORMAT, 1) == 3:  # LibRaw maps floats to integers, and their levels too
        return _of_channels(decoded), []
    masked = _masked(decoded, page)
    if tiff.BLACK not in page.numbers and masked is not None:
        return masked, [f"states no black level; its masked border is {masked:g} on average"]
    tile, (height, width) = _tile(page), geometry.area_shape
    by_row, by_column = _deltas(page, tiff.BLACK_BY_ROW, height), _deltas(page, tiff.BLACK_BY_COLUMN, width)
    levels = BlackLevels(
        tile=geometry.rolled(tile),
        by_row=by_row[np.clip(np.arange(decoded.height) + geometry.rows, 0, height - 1)],
        by_column=by_column[np.clip(np.arange(decoded.width) + geometry.columns, 0, width - 1)],
        largest=float(tile.max() + by_row.max() + by_column.max()),
    )
    remarks = []
    mean = float(levels.tile.mean())
    if masked is not None and abs(masked - mean) > FAR * abs(decoded.white - mean):
        remarks.append(f"says that black is {mean:g}, and its masked border is {masked:g} on average")
    return levels.simplified, remarks


def _of_channels(decoded: Decoded) -> float | BlackLevels:
    """Return LibRaw's level of each pixel's channel: the two greens have levels of their own."""
    side = decoded.channels[: math.lcm(12, 16), : math.lcm(12, 16)]  # whole tiles of every array that LibRaw knows
    tile = np.array([*decoded.black, *[decoded.black[1]] * 7])[np.minimum(side, 10)]
    return BlackLevels(tile=tile, largest=float(tile.max())).simplified


def _tile(page: Page) -> np.ndarray:
    sides = [int(side) for side in page.numbers.get(tiff.BLACK_DIMENSIONS, (1, 1))]
    levels = page.numbers.get(tiff.BLACK, np.zeros(math.prod(sides) * page.samples)).astype(float)
    if len(sides) != 2 or min(sides) < 1 or len(levels) != math.prod(sides) * page.samples:
        raise DataError(f"it states {len(levels)} black levels for a tile of {'x'.join(map(str, sides))} pixels")
    return levels.reshape(*sides, page.samples)[:, :, 0]


def _deltas(page: Page, tag: int, count: int) -> np.ndarray:
    """Return what is added to the black level of each row, or column, of the active area."""
    deltas = page.numbers.get(tag, np.zeros(count)).astype(float)
    if len(deltas) != count:
        raise DataError(f"tag {tag} has {len(deltas)} black levels for {count} rows or columns")
    return deltas


def _masked(decoded: Decoded, page: Page) -> float | None:
    """Return the mean of the pixels that no light reaches; None if the file names none."""
    borders = page.numbers.get(tiff.MASKED_AREAS, np.zeros(0)).astype(int)
    total = count = 0.0
    for top, left, bottom, right in borders[: len(borders) // 4 * 4].reshape(-1, 4):
        part = decoded.values[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
        total, count = total + float(part.sum(dtype=np.float64)), count + part.size
    return total / count if count else None
