"""The tags of a TIFF file, each checked against the file's length.

The library tifffile leaves out a tag that it cannot read, and logs it. Here a missing tag would change the picture, so
a tag that is used and lies beyond the file's end is an error.

Source: Aldus, *TIFF*, revision 6.0, section 2; Adobe, *Digital Negative Specification*, version 1.7.1.0, chapter 4.
"""

import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from compresskit.errors import DataError

Data = bytes | mmap.mmap
"""The bytes of a file."""


Order = Literal["<", ">"]
"""Order of the bytes of a number: the lowest first, or the highest."""


DTYPES = dict(
    zip(range(1, 14), ("u1", "u1", "u2", "u4", "u4", "i1", "u1", "i2", "i4", "i4", "f4", "f8", "u4"), strict=True)
)
"""Type of a tag's numbers, by the number that stands in the file."""


RATIONALS = (5, 10)
"""Types with a numerator and a denominator for each number."""


NEW_SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION = 254, 256, 257, 258, 259, 262, 274


STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_LENGTHS = 273, 277, 278, 279


TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_LENGTHS, SUB_PAGES, SAMPLE_FORMAT = 322, 323, 324, 325, 330, 339


CFA_DIMENSIONS, CFA_PATTERN, DNG_VERSION, CFA_LAYOUT = 33421, 33422, 50706, 50711


BLACK_DIMENSIONS, BLACK, BLACK_BY_COLUMN, BLACK_BY_ROW, WHITE = 50713, 50714, 50715, 50716, 50717


NEUTRAL, ACTIVE_AREA, MASKED_AREAS = 50728, 50829, 50830


OPCODE_LISTS = (51008, 51009, 51022)


USED = {
    *(NEW_SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION, STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP),
    *(STRIP_LENGTHS, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_LENGTHS, SUB_PAGES, SAMPLE_FORMAT, CFA_DIMENSIONS),
    *(CFA_PATTERN, DNG_VERSION, CFA_LAYOUT, BLACK_DIMENSIONS, BLACK, BLACK_BY_COLUMN, BLACK_BY_ROW, WHITE, NEUTRAL),
    *(ACTIVE_AREA, MASKED_AREAS, *OPCODE_LISTS),
}
"""Tags that change the picture or its place in the file; the others are not read."""


MOST_PAGES = 100
"""Pages of a file that are read; a damaged one may claim any number."""


MOSAIC, LINEAR_RAW = 32803, 34892
"""Photometric interpretations of a sensor's pages."""


@dataclass(frozen=True)
class Page:
    """One image of a file: its tags, and where they stand."""

    numbers: Mapping[int, np.ndarray]
    """The numbers of each tag that is used, rationals as floats."""
    entries: Mapping[int, int]
    """Position in the file of each tag's entry."""

    def first(self, tag: int, default: int) -> int | float:
        """Return a tag's first number."""
        stored = self.numbers.get(tag)
        return default if stored is None or not len(stored) else stored[0].item()

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.first(HEIGHT, 0)), int(self.first(WIDTH, 0))

    @property
    def samples(self) -> int:
        """Numbers of each pixel."""
        return int(self.first(SAMPLES, 1))

    @property
    def is_raw(self) -> bool:
        """True for a sensor's own numbers, False for previews and masks."""
        return self.first(PHOTOMETRIC, 0) in (MOSAIC, LINEAR_RAW)


def read_pages(data: Data) -> list[Page]:
    """Return all pages of a DNG, sub-pages after their page; none for a file that is no DNG.

    Args:
        data: The bytes of the file.

    Raises:
        DataError: The file is a DNG, and a page or one of the tags used lies beyond the file's end.
    """
    orders: dict[bytes, Order] = {b"II*\x00": "<", b"MM\x00*": ">"}
    order = orders.get(data[:4])
    if order is None:
        return []
    waiting, pages, visited = [_unpack(order + "I", data, 4)], [], set()
    while waiting and len(pages) < MOST_PAGES:
        start = waiting.pop(0)
        if start == 0 or start in visited:
            continue
        visited.add(start)
        page, following = _page(data, order, start)
        pages.append(page)
        if DNG_VERSION not in pages[0].numbers:
            return []
        waiting = [*map(int, page.numbers.get(SUB_PAGES, ())), following, *waiting]
    return pages


def _page(data: Data, order: Order, start: int) -> tuple[Page, int]:
    count = _unpack(order + "H", data, start)
    numbers, entries = {}, {}
    for entry, tag, kind, length in _entries(data, order, start + 2, count):
        if tag in USED and kind in DTYPES:
            numbers[tag], entries[tag] = _numbers(data, order, entry, tag, kind, length), entry
    return Page(numbers, entries), _unpack(order + "I", data, start + 2 + 12 * count)


def _entries(data: Data, order: Order, start: int, count: int) -> Iterator[tuple[int, int, int, int]]:
    if start + 12 * count > len(data):
        raise DataError(f"its {count} tags at byte {start} go beyond its end, at {len(data)} bytes")
    for entry in range(start, start + 12 * count, 12):
        yield (entry, *struct.unpack_from(order + "HHI", data, entry))


def _numbers(data: Data, order: Order, entry: int, tag: int, kind: int, length: int) -> np.ndarray:
    dtype = np.dtype(DTYPES[kind]).newbyteorder(order)
    count = length * (2 if kind in RATIONALS else 1)
    size = count * dtype.itemsize
    start = entry + 8 if size <= 4 else _unpack(order + "I", data, entry + 8)
    if start + size > len(data):
        raise DataError(f"tag {tag} has {size} bytes at byte {start}, and the file ends at {len(data)}")
    numbers = np.frombuffer(data[start : start + size], dtype)
    if kind in RATIONALS:
        with np.errstate(divide="ignore", invalid="ignore"):
            numbers = numbers[::2] / numbers[1::2].astype(float)
    if not np.isfinite(numbers).all():
        raise DataError(f"tag {tag} has numbers that are not finite")
    return numbers


def _unpack(format: str, data: Data, start: int) -> int:
    if start + struct.calcsize(format) > len(data):
        raise DataError(f"a page at byte {start} goes beyond its end, at {len(data)} bytes")
    return struct.unpack_from(format, data, start)[0]
