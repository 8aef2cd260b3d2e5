"""Pictures and mosaics to files: each is whole or not there, and replaces another only on request."""

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Shaped

from compresskit.errors import DataError
from compresskit.files import write_atomically

ROWS = 64
"""Rows of a PNG that are compressed at once."""


def check_writable(path: Path, *, overwrite: bool) -> None:
    """Make the folder of a file, and check before the work that its result can be written.

    Raises:
        DataError: The file exists, or the folder cannot be made or written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path.parent} cannot be made a folder: {error.strerror}") from error
    if path.exists() and not overwrite:
        raise DataError(f"{path} exists already; add --overwrite to replace it, or give another folder")
    if not os.access(path.parent, os.W_OK):
        raise DataError(f"{path.parent} cannot be written to")


def write(path: Path, picture: Shaped[np.ndarray, "h w *channels"]) -> None:
    """Write a picture (height, width, 3) or a mosaic (height, width), in the format of the file's ending.

    PNG and TIFF hold uint8 or uint16, `.npy` anything. A file that cannot be finished is not left behind.

    Raises:
        OSError: The disk is full, or the folder cannot be written to.
    """
    writers: dict[str, Callable[[BinaryIO, np.ndarray], None]] = {".png": _png, ".tiff": _tiff, ".npy": np.save}

    def fill(part: Path) -> None:
        with part.open("wb") as file:
            writers[path.suffix](file, picture)

    write_atomically(path, fill)


def _tiff(file: BinaryIO, picture: np.ndarray) -> None:
    import tifffile

    tifffile.imwrite(file, picture, photometric="rgb" if picture.ndim == 3 else "minisblack", metadata=None)


def _png(file: BinaryIO, picture: np.ndarray) -> None:
    """Write a PNG with the filter `Up`, after sections 5 and 9 of the standard; Pillow writes no 16-bit colours."""
    height, width = picture.shape[:2]
    depth, colour = 8 * picture.dtype.itemsize, 2 if picture.ndim == 3 else 0
    file.write(b"\x89PNG\r\n\x1a\n")
    _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    for data in _compress(picture):
        _chunk(file, b"IDAT", data)
    _chunk(file, b"IEND", b"")


def _compress(picture: np.ndarray) -> Iterator[bytes]:
    packer = zlib.compressobj(level=4)
    above = np.zeros((1, picture[0].nbytes), np.uint8)
    for start in range(0, len(picture), ROWS):
        rows = np.ascontiguousarray(picture[start : start + ROWS]).astype(picture.dtype.newbyteorder(">"))
        numbers = rows.reshape(len(rows), -1).view(np.uint8)
        filtered = numbers - np.concatenate([above, numbers[:-1]])
        above = numbers[-1:]
        if data := packer.compress(np.insert(filtered, 0, 2, axis=1).tobytes()):
            yield data
    yield packer.flush()


def _chunk(file: BinaryIO, name: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)))
