"""Strips and tiles that a DNG's own lengths contradict.

LibRaw decodes what there is, and leaves the rest of the picture as the memory was.
"""

import math
from collections.abc import Iterator, Sequence

from compresskit.errors import DataError
from zoo.frames.camera import tiff
from zoo.frames.camera.tiff import Data, Page

UNCOMPRESSED, JPEG = 1, 7
"""Compressions whose lengths are known."""


END_OF_JPEG = b"\xff\xd9"


SLACK, LEAST_SLACK = 0.001, 8
"""Share of its length, and bytes, by which an uncompressed part may exceed its pixels: some writers align it."""


FRAME_HEADERS = (0xC0, 0xC1, 0xC3)
"""JPEG's markers of a baseline, an extended and a lossless frame."""


def check_segments(page: Page, data: Data) -> bool:
    """Check that the file holds all strips or tiles of a page, each in full.

    Returns:
        True if all pixels certainly are there: LibRaw reads uncompressed ones as they are.

    Raises:
        DataError: Some are missing, lie beyond the file's end or are too short.
    """
    offsets, lengths, full, sizes = _segments(page)
    for number, (start, length, size) in enumerate(zip(offsets, lengths, sizes, strict=True)):
        what = f"part {number + 1} of {len(sizes)} of its pixels"
        if start + length > len(data):
            raise DataError(f"{what} goes to byte {start + length}, and the file ends at {len(data)}")
        _check_content(page, data[start : start + length], full, size, what)
    compression = page.first(tiff.COMPRESSION, UNCOMPRESSED)
    if compression == UNCOMPRESSED and tiff.TILE_OFFSETS not in page.numbers:
        _check_contiguous(offsets, lengths)
    return compression == UNCOMPRESSED


def _segments(page: Page) -> tuple[list[int], list[int], tuple[int, int], list[tuple[int, int]]]:
    """Return the offset and the length of each strip or tile, their full size, and the part of each within the page."""
    height, width = page.shape
    tiled = tiff.TILE_OFFSETS in page.numbers
    tags = (tiff.TILE_OFFSETS, tiff.TILE_LENGTHS) if tiled else (tiff.STRIP_OFFSETS, tiff.STRIP_LENGTHS)
    offsets, lengths = ([int(number) for number in page.numbers.get(tag, ())] for tag in tags)
    rows = int(page.first(tiff.TILE_HEIGHT if tiled else tiff.ROWS_PER_STRIP, height))
    columns = int(page.first(tiff.TILE_WIDTH, width)) if tiled else width
    if min(rows, columns) < 1:
        raise DataError(f"its pixels are in parts of {columns}x{rows}")
    needed = math.ceil(height / rows) * math.ceil(width / columns)
    if len(offsets) != needed or len(lengths) != needed:
        raise DataError(
            f"its {width}x{height} pixels are in {needed} parts, and it states {len(offsets)} places and "
            f"{len(lengths)} lengths"
        )
    sizes = [
        (min(rows, height - top), min(columns, width - left))
        for top in range(0, height, rows)
        for left in range(0, width, columns)
    ]
    return offsets, lengths, (rows if tiled else min(rows, height), columns), sizes


def _check_content(page: Page, part: bytes, full: tuple[int, int], size: tuple[int, int], what: str) -> None:
    compression = page.first(tiff.COMPRESSION, UNCOMPRESSED)
    if compression == UNCOMPRESSED:
        height, width = full if tiff.TILE_OFFSETS in page.numbers else size
        needed = height * math.ceil(width * page.samples * page.first(tiff.BITS, 1) / 8)
        if not 0 <= len(part) - needed <= max(LEAST_SLACK, SLACK * needed):
            raise DataError(f"{what} has {len(part)} bytes, and {width}x{height} pixels take {needed}")
    elif compression == JPEG:
        if not part.startswith(b"\xff\xd8"):
            raise DataError(f"{what} is no JPEG")
        if part.rfind(END_OF_JPEG) < 0:
            raise DataError(f"{what} is a JPEG that breaks off")
        numbers = _numbers_of_jpeg(part, what)
        if numbers not in (math.prod(full) * page.samples, math.prod(size) * page.samples):
            raise DataError(f"{what} holds {numbers} numbers, which are not those of {size[1]}x{size[0]} pixels")


def _numbers_of_jpeg(part: bytes, what: str) -> int:
    """Return how many numbers a JPEG holds; it may arrange them in another shape than its strip or tile has."""
    for marker, start in _markers(part):
        if marker in FRAME_HEADERS:
            height, width = (int.from_bytes(part[start + at : start + at + 2], "big") for at in (3, 5))
            return height * width * part[start + 7]
    raise DataError(f"{what} is a JPEG without a frame")


def _markers(part: bytes) -> Iterator[tuple[int, int]]:
    """Yield the markers before a JPEG's data, and where their lengths stand."""
    start = 2
    while start + 9 < len(part) and part[start] == 0xFF:
        yield part[start + 1], start + 2
        start += 2 + int.from_bytes(part[start + 2 : start + 4], "big")


def _check_contiguous(offsets: Sequence[int], lengths: Sequence[int]) -> None:
    """Refuse strips that do not follow each other: LibRaw reads on from the first."""
    for before, length, after in zip(offsets, lengths, offsets[1:], strict=False):
        if before + length != after:
            raise DataError("its strips do not follow each other, and LibRaw does not read such files")
