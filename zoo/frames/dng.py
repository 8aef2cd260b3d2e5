"""A DNG's own tags, for arrays whose tile is larger than two by two pixels: LibRaw misreads or refuses them.

Source: Adobe, *Digital Negative Specification*, version 1.7.1.0, chapter 4, and ISO 12234-2 for the array's tags.
"""

from pathlib import Path
from typing import Any

import numpy as np

from zoo.frames.frame import Frame, Gains
from zoo.raw.sensor.cfa import CFA

COLOUR_FILTER_ARRAY = 32803
"""Photometric interpretation of a mosaic."""


CFA_DIMENSIONS, CFA_PATTERN, ORIENTATION = 33421, 33422, 274


BLACK_LEVEL, WHITE_LEVEL, AS_SHOT_NEUTRAL, ACTIVE_AREA = 50714, 50717, 50728, 50829


LINEARIZATION, BLACK_DELTA_H, BLACK_DELTA_V, OPCODES_1, OPCODES_2 = 50712, 50715, 50716, 51008, 51009
"""Tags of corrections that are not made here."""


TURNS = {1: 0, 3: 2, 6: 3, 8: 1}
"""Quarter turns, counterclockwise, that put a picture upright, by orientation."""


def read_cfa(path: Path) -> CFA | None:
    """Return the array in the tags, with the phase of the active area's first pixel; None if they state none."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        page = _mosaic_page(file)
        return None if page is None else _cfa(page)


def read_plain(path: Path) -> Frame | None:
    """Read a DNG that needs nothing but its tags; return None if it needs more, such as a linearisation table."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        page = _mosaic_page(file)
        more = (LINEARIZATION, BLACK_DELTA_H, BLACK_DELTA_V, OPCODES_1, OPCODES_2)
        if page is None or WHITE_LEVEL not in page.tags or any(tag in page.tags for tag in more):
            return None
        black = _numbers(page, BLACK_LEVEL) or [0.0]
        if np.ptp(black) > 0:
            return None
        try:
            values = page.asarray()
        except (ValueError, NotImplementedError):  # a compression that tifffile leaves to other packages
            return None
        top, left, bottom, right = (int(side) for side in _numbers(page, ACTIVE_AREA) or (0, 0, *values.shape))
        return Frame(
            name=path.stem,
            values=values[top:bottom, left:right],
            cfa=_cfa(page),
            black=black[0],
            white=_numbers(page, WHITE_LEVEL)[0],
            gains=_gains(_numbers(file.pages[0], AS_SHOT_NEUTRAL)),
            turn=TURNS.get(int((_numbers(file.pages[0], ORIENTATION) or [1])[0]), 0),
        )


def _mosaic_page(file: Any) -> Any:
    pages = [page for top in file.pages for page in (top, *(top.pages or ()))]
    return next((page for page in pages if page.photometric == COLOUR_FILTER_ARRAY and len(page.shape) == 2), None)


def _cfa(page: Any) -> CFA | None:
    if CFA_PATTERN not in page.tags or CFA_DIMENSIONS not in page.tags:
        return None
    rows, columns = page.tags[CFA_DIMENSIONS].value
    pattern = np.frombuffer(bytes(page.tags[CFA_PATTERN].value), np.uint8)
    if rows != columns or len(pattern) != rows * columns or pattern.max() > 2:
        return None
    return CFA(["".join("RGB"[colour] for colour in row) for row in pattern.reshape(rows, columns)])


def _numbers(page: Any, tag: int) -> list[float]:
    """Return a tag's numbers; it stores rationals as numerator and denominator, one after the other."""
    if tag not in page.tags:
        return []
    stored = page.tags[tag]
    numbers = [float(number) for number in np.atleast_1d(stored.value)]
    if stored.dtype.name in ("RATIONAL", "SRATIONAL"):
        return [top / bottom for top, bottom in zip(numbers[::2], numbers[1::2], strict=True)]
    return numbers


def _gains(neutral: list[float]) -> Gains | None:
    """Return the white balance that makes the camera's numbers of something neutral equal."""
    if len(neutral) != 3 or min(neutral) <= 0:
        return None
    red, green, blue = neutral
    return (green / red, 1.0, green / blue)
