"""One decision about a frame's geometry: the tags that belong to its pixels, and the phase of its array.

A DNG states its array and black levels from the corner of its active area. LibRaw moves the margins of most arrays to
even places, and may decode a page other than the first. So both are taken from the page that has the size of LibRaw's
pixels, and moved by the difference between LibRaw's margins and the active area.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped

from compresskit.errors import DataError
from zoo.frames.camera import tiff
from zoo.frames.camera.libraw import Decoded
from zoo.frames.camera.tiff import Page
from zoo.raw.sensor.cfa import CFA

LONGEST_PERIOD = 16
"""Side in pixels of the largest tile that is looked for in LibRaw's colours."""


LONGEST_TAG = 64
"""Side in pixels of the largest tile that a tag may state."""


COLOURS = ("red", "green", "blue", "cyan", "magenta", "yellow", "white")
"""Colours of a filter, by their numbers in a tag."""


@dataclass(frozen=True)
class Geometry:
    """The place of the visible pixels in the area that the tags are about."""

    page: Page | None
    """The page that was decoded; None for a file without a DNG's tags."""
    area: tuple[int, int, int, int]
    """Top, left, bottom and right of the active area, among all pixels."""
    rows: int
    """Rows from the active area's corner to the first visible pixel."""
    columns: int

    @property
    def area_shape(self) -> tuple[int, int]:
        """Height and width of the active area."""
        top, left, bottom, right = self.area
        return bottom - top, right - left

    def rolled(self, tile: Shaped[np.ndarray, "h w"]) -> Shaped[np.ndarray, "h w"]:
        """Return a tile that repeats from the active area's corner, as it repeats from the first visible pixel."""
        return np.roll(tile, (-self.rows, -self.columns), (0, 1))


def page_of(pages: Sequence[Page], shape: tuple[int, int]) -> Page | None:
    """Return the page with the size of LibRaw's pixels; of several the first that is no reduced version."""
    fitting = [page for page in pages if page.is_raw and page.shape == shape]
    return min(fitting, key=lambda page: page.first(tiff.NEW_SUBFILE, 0), default=None)


def check_tags(page: Page) -> None:
    """Refuse a raw page whose tags contradict each other.

    Raises:
        DataError: The active area does not lie within the page, or the array has another number of colours than places.
    """
    _area(page)
    if tiff.CFA_PATTERN in page.numbers:
        _pattern(page)


def place(decoded: Decoded, page: Page | None) -> Geometry:
    """Return the place of the visible pixels in a page's active area."""
    if page is None:
        area = (decoded.top, decoded.left, decoded.top + decoded.height, decoded.left + decoded.width)
        return Geometry(None, area, 0, 0)
    area = _area(page)
    return Geometry(page, area, decoded.top - area[0], decoded.left - area[1])


def _area(page: Page) -> tuple[int, int, int, int]:
    (height, width), stated = page.shape, [int(number) for number in page.numbers.get(tiff.ACTIVE_AREA, ())]
    top, left, bottom, right = stated if len(stated) == 4 else (0, 0, height, width)
    if len(stated) not in (0, 4) or not (0 <= top < bottom <= height and 0 <= left < right <= width):
        raise DataError(f"its active area {stated} does not lie within its {width}x{height} pixels")
    return top, left, bottom, right


def array_of(decoded: Decoded, geometry: Geometry, pages: Sequence[Page]) -> tuple[CFA | None, str]:
    """Return the array, with the phase of the first visible pixel, or None and the reason."""
    page = geometry.page
    if page is None and any(len(other.numbers.get(tiff.CFA_PATTERN, ())) > 4 for other in pages):
        return None, "states arrays for pages other than the one that LibRaw decodes"
    if page is None or tiff.CFA_PATTERN not in page.numbers:
        return _array_of_colours(decoded.letters)
    if page.first(tiff.CFA_LAYOUT, 1) != 1:
        return None, "has staggered rows or columns, and such arrays are not known"
    pattern = geometry.rolled(_pattern(page))
    if pattern.max() > 2:
        names = ", ".join(COLOURS[number] if number < len(COLOURS) else str(number) for number in np.unique(pattern))
        return None, f"has an array of {names}; only arrays of red, green and blue are known"
    cfa = CFA(["".join("RGB"[number] for number in row) for row in pattern])
    read, _ = _array_of_colours(decoded.letters)
    if cfa.period == 2 and read != cfa:  # LibRaw misreads the colours of most larger tiles
        seen = "another array" if read is None else read.name
        return None, f"states {cfa.name}, and LibRaw takes it for {seen}"
    return cfa, ""


def _pattern(page: Page) -> Shaped[np.ndarray, "period period"]:
    """Return a page's tile, made square."""
    sides = [int(side) for side in page.numbers.get(tiff.CFA_DIMENSIONS, (2, 2))]
    numbers = page.numbers[tiff.CFA_PATTERN]
    if len(sides) != 2 or not all(0 < side <= LONGEST_TAG for side in sides) or math.prod(sides) != len(numbers):
        raise DataError(f"its array states {len(numbers)} colours for a tile of {'x'.join(map(str, sides))} pixels")
    period = math.lcm(*sides)
    if period > LONGEST_TAG:
        raise DataError(f"its array repeats every {period} pixels; at most {LONGEST_TAG} are known")
    return np.tile(numbers.reshape(sides), (period // sides[0], period // sides[1]))


def _array_of_colours(letters: Shaped[np.ndarray, "h w"]) -> tuple[CFA | None, str]:
    """Return the array of the smallest square tile that these pixels' colours repeat."""
    if len(np.unique(letters)) == 1:
        return None, "is monochrome: there is nothing to demosaic. If it is a mosaic"
    if extra := sorted(set(letters.flat) - set("RGB")):
        return None, f"has an array with the colours {', '.join(extra)}; only arrays of red, green and blue are known"
    for period in range(2, min(LONGEST_PERIOD, *letters.shape) + 1):
        if all((letters == np.roll(letters, period, axis))[period:, period:].all() for axis in (0, 1)):
            return CFA(["".join(row) for row in letters[:period, :period]]), ""
    return None, "has an array that does not repeat"
