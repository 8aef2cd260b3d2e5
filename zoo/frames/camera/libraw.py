"""The pixels of a camera file, and what LibRaw says about it."""

import ctypes
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt16

from compresskit.errors import DataError

MOST_PER_BYTE = 64
"""Pixels for each byte of a file. No camera packs more; a file that claims more is damaged."""


COMPLAINT = re.compile(r"^.*: (Unexpected end of file|data corrupted at -?\d+)\n?", re.MULTILINE)
"""LibRaw's sentences on standard error: decoding goes on after them, with wrong pixels."""


FILLS = (0x55, 0xAA)
"""Bytes of fresh memory in the first and the second read: pixels that LibRaw does not write differ between them."""


M_PERTURB = -6
"""glibc's parameter, from malloc.h."""


CORNER = 96
"""Side in pixels of the part whose colours tell the array."""


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A camera file as LibRaw reads it."""

    values: UInt16[np.ndarray, "h w"]
    """Pixels, with the borders."""
    top: int
    """Rows above the visible part."""
    left: int
    height: int
    """Height in pixels of the visible part."""
    width: int
    letters: Shaped[np.ndarray, "h2 w2"]
    """Colours of the visible part's first corner."""
    channels: Shaped[np.ndarray, "h2 w2"]
    """Numbers of these pixels' channels, which tell the two greens apart."""
    black: tuple[float, ...]
    """Black level of each channel."""
    white: float
    balance: tuple[float, ...]
    """Gains of red, green, blue and the second green; 0 where there is none."""
    flip: int

    @property
    def visible(self) -> UInt16[np.ndarray, "h2 w2"]:
        """The pixels without borders."""
        return _visible(self.values, self.top, self.left, self.height, self.width)


class UnsupportedError(DataError):
    """A file that LibRaw does not know, or that cannot be read without rawpy."""


def decode(
    path: Path,
    data: bytes | None,
    *,
    most_pixels: int,
    check: Callable[[tuple[int, int]], bool],
) -> Decoded:
    """Read a camera file, twice where in doubt.

    Args:
        path: The file.
        data: Its bytes if they are to be read instead, with other tags.
        most_pixels: Most pixels of a frame.
        check: Function that is called with height and width before the pixels are decoded. It raises an error if the
            file cannot hold them, and returns True if the file certainly holds all of them.

    Raises:
        UnsupportedError: LibRaw does not know the file.
        DataError: The file is damaged, too large, or its pixels have several colours each.
    """
    with _open(path, data) as raw:
        shape = raw.sizes.raw_height, raw.sizes.raw_width
        _check_size(path, shape, most_pixels)
        certain = check(shape)
        decoded = _unpack(path, raw, fill=FILLS[0])
    if not certain:
        with _open(path, data) as raw:
            _check_same(path, decoded, raw)
    return decoded


def _check_size(path: Path, shape: tuple[int, int], most_pixels: int) -> None:
    height, width = shape
    if height * width > most_pixels:
        raise DataError(
            f"{path} claims to be {width}x{height} pixels, {height * width / 1e6:,.0f} megapixels; at most "
            f"{most_pixels / 1e6:,.0f} are read"
        )
    if height * width > MOST_PER_BYTE * path.stat().st_size:
        raise DataError(f"{path} is damaged: {path.stat().st_size} bytes cannot hold {width}x{height} pixels")


def _unpack(path: Path, raw: Any, *, fill: int) -> Decoded:
    with _listening(path), _fresh_memory(fill):
        raw.unpack()
    if raw.raw_image is None or raw.raw_image.ndim != 2:
        raise DataError(f"{path} is no mosaic: its pixels have several colours each")
    sizes = raw.sizes
    pattern = np.atleast_2d(raw.raw_pattern)
    rows, columns = (np.arange(start, start + CORNER) for start in (sizes.top_margin, sizes.left_margin))
    channels = pattern[np.ix_(rows % len(pattern), columns % len(pattern))]
    letters = np.array([*raw.color_desc.decode("latin-1").ljust(4, "?"), *"???????"])[np.minimum(channels, 10)]
    decoded = Decoded(
        values=raw.raw_image.copy(),
        top=sizes.top_margin,
        left=sizes.left_margin,
        height=sizes.height,
        width=sizes.width,
        letters=letters,
        channels=channels,
        black=tuple(map(float, raw.black_level_per_channel)),
        white=float(raw.white_level),
        balance=tuple(map(float, raw.camera_whitebalance)),
        flip=sizes.flip,
    )
    if decoded.visible.size == 0:
        raise DataError(f"{path} is damaged: its visible part has no pixels")
    return decoded


def _check_same(path: Path, decoded: Decoded, raw: Any) -> None:
    with _listening(path), _fresh_memory(FILLS[1]):
        raw.unpack()
    again = _visible(raw.raw_image, decoded.top, decoded.left, decoded.height, decoded.width)
    differing = sum(int((row != other).sum()) for row, other in zip(decoded.visible, again, strict=True))
    if differing:
        raise DataError(
            f"{path} is damaged, or LibRaw does not know its layout: {differing / decoded.visible.size:.1%} of the "
            "pixels are not written when it is decoded"
        )


def _visible(values: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    return values[top : top + height, left : left + width]


@contextmanager
def _open(path: Path, data: bytes | None) -> Iterator[Any]:
    """Open a file in LibRaw, and turn its errors inside the block into sentences that name the file."""
    import rawpy

    raw, kind = rawpy.RawPy(), UnsupportedError
    try:
        with _listening(path):
            if data is None:
                raw.open_file(str(path))
            else:
                raw.open_buffer(BytesIO(data))
        kind = DataError
        yield raw
    except (rawpy.LibRawIOError, rawpy.LibRawDataError) as error:
        raise kind(f"{path} is damaged: LibRaw says {_reason(error)!r}") from error
    except (rawpy.LibRawError, rawpy.NotSupportedError, NotImplementedError) as error:
        raise kind(f"{path} cannot be read as a camera file: {_reason(error)}") from error
    finally:
        raw.close()


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else ""
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)


@contextmanager
def _listening(path: Path) -> Iterator[None]:
    """Refuse a file of which LibRaw says on standard error that it is damaged; rawpy hands these sentences to nobody.

    All else that is written to standard error inside the block follows after it.
    """
    try:
        saved = os.dup(2)
    except OSError:  # a process without standard error
        yield
        return
    try:
        with tempfile.TemporaryFile() as heard:
            sys.stderr.flush()
            os.dup2(heard.fileno(), 2)
            try:
                yield
            finally:
                sys.stderr.flush()
                os.dup2(saved, 2)
                heard.seek(0)
                text = heard.read().decode(errors="replace")
                sys.stderr.write(COMPLAINT.sub("", text))
    finally:
        os.close(saved)
    if complaint := COMPLAINT.search(text):
        raise DataError(f"{path} is damaged: LibRaw says {complaint[1]!r}")


@contextmanager
def _fresh_memory(fill: int) -> Iterator[None]:
    """Let fresh memory hold this byte inside the block, where the C library can: only glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        yield
        return
    mallopt(M_PERTURB, fill)
    try:
        yield
    finally:
        mallopt(M_PERTURB, 0)
