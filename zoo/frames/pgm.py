"""Grey pictures in the PGM format, at the depth they were stored in; Pillow would stretch their numbers.

Source: Netpbm's manual, *pgm*, netpbm.sourceforge.net.
"""

import re
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from compresskit.errors import DataError
from zoo.frames.frame import MOST_PIXELS

HEADER = re.compile(rb"(P[1-7])(?:\s|#[^\n\r]*[\n\r])+(\d+)(?:\s|#[^\n\r]*[\n\r])+(\d+)(?:\s|#[^\n\r]*[\n\r])+(\d+)\s")
"""Kind, width, height and largest number, with comments between them."""


LONGEST_HEADER = 65536
"""Bytes in which a header, with its comments, has to end."""


def read_pgm(path: Path) -> tuple[Shaped[np.ndarray, "h w"], int, tuple[str, ...]]:
    """Read a PGM's numbers, its largest possible number, and remarks about further pictures in the file.

    Raises:
        DataError: It is damaged, too large, or a picture in colour or in black and white.
    """
    with path.open("rb") as file:
        header = HEADER.match(file.read(LONGEST_HEADER))
    if header is None:
        raise DataError(f"{path} is damaged, or not what its ending says: it does not begin like a PGM")
    kind, (width, height, largest) = header[1], map(int, header.groups()[1:])
    if kind not in (b"P2", b"P5"):
        raise DataError(f"{path} is no mosaic: {kind.decode()} is not the grey of a PGM; see --mosaic")
    if not (0 < width * height <= MOST_PIXELS and 0 < largest < 65536):
        raise DataError(f"{path} claims to be {width}x{height} pixels up to {largest}, which is not read")
    if kind == b"P2":
        text = re.sub(rb"#[^\n\r]*", b"", path.read_bytes()[header.end() :]).split(maxsplit=width * height)
        try:
            numbers = np.array(text[: width * height], "S20").astype(np.int64)
        except ValueError as error:
            raise DataError(f"{path} is damaged: {error}") from error
        rest = len(text) - len(numbers)
    else:
        dtype = np.dtype(">u2" if largest > 255 else "u1")
        numbers = np.fromfile(path, dtype, count=width * height, offset=header.end())
        rest = path.stat().st_size - header.end() - width * height * dtype.itemsize
    if len(numbers) < width * height:
        raise DataError(f"{path} is damaged: it ends after {len(numbers)} of {width * height} pixels")
    if numbers.min() < 0 or numbers.max() > largest:
        raise DataError(f"{path} is damaged: it has numbers above {largest}, the largest that it states")
    remarks = ("holds more than one picture; the first is read",) if rest > 1 else ()
    return numbers.astype(np.uint8 if largest < 256 else np.uint16).reshape(height, width), largest, remarks
