"""A camera file to a frame: its mosaic, array, levels, white balance and place."""

import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from compresskit.errors import DataError
from zoo.frames.camera import tiff
from zoo.frames.camera.black import black_of
from zoo.frames.camera.damage import check_segments
from zoo.frames.camera.geometry import array_of, check_tags, page_of, place
from zoo.frames.camera.libraw import Decoded, UnsupportedError, decode
from zoo.frames.camera.opcodes import shading_of
from zoo.frames.camera.tiff import Page, read_pages
from zoo.frames.frame import MOST_PIXELS, Frame, Gains

FLIPS = ((0, False), (0, True), (2, True), (2, False), (1, True), (1, False), (3, False), (3, True))
"""Quarter turns, counterclockwise, after a mirroring, by LibRaw's `flip`."""


def read_camera(path: Path) -> Frame:
    """Read a camera file's mosaic, with the array, levels and white balance that the file states.

    Raises:
        DataError: rawpy is missing, or the file is damaged, unknown to LibRaw or no mosaic.
    """
    try:
        import rawpy  # noqa: F401
    except ImportError:
        raise UnsupportedError(f"{path}: camera files need rawpy: pip install 'compresskit[camera]'") from None
    with _mapped(path) as data, _naming(path):
        pages = read_pages(data)
        for page in pages:
            if page.is_raw:
                check_tags(page)
        decoded = _decode(path, data, pages)
        return _frame(path, decoded, pages)


def _frame(path: Path, decoded: Decoded, pages: Sequence[Page]) -> Frame:
    page = page_of(pages, decoded.values.shape)
    geometry = place(decoded, page)
    cfa, problem = array_of(decoded, geometry, pages)
    black, remarks = black_of(decoded, geometry)
    shading, more = shading_of(geometry, cfa, (decoded.height, decoded.width))
    gains = _gains(decoded.balance)
    turn, mirrored = FLIPS[decoded.flip % 8]
    frame = Frame(
        name=path.stem,
        values=decoded.visible,
        cfa=cfa,
        black=black,
        white=decoded.white,
        gains=gains,
        lacks_balance=gains is None,
        turn=turn,
        mirrored=mirrored,
        shading=shading,
        remarks=(*remarks, *more, *_remarks_on_pages(page, pages)),
    )
    return replace(frame, no_cfa=problem) if problem else frame


def _decode(path: Path, data: mmap.mmap, pages: Sequence[Page]) -> Decoded:
    """Read the pixels; where LibRaw refuses a DNG for its array, tell LibRaw that it is a Bayer one."""

    def check(shape: tuple[int, int]) -> bool:
        page = page_of(pages, shape)
        return page is not None and check_segments(page, data)

    try:
        return decode(path, None, most_pixels=MOST_PIXELS, check=check)
    except UnsupportedError:
        arrays = [page for page in pages if len(page.numbers.get(tiff.CFA_PATTERN, ())) > 4]
        if not arrays:
            raise
        return decode(path, _as_bayer(data, arrays), most_pixels=MOST_PIXELS, check=check)


def _as_bayer(data: mmap.mmap, pages: Sequence[Page]) -> bytes:
    """Return the file with tags that state a Bayer array: the pixels are the same."""
    stated = bytearray(data)
    order = "little" if data[:2] == b"II" else "big"
    for page in pages:
        for tag, count, value in ((tiff.CFA_DIMENSIONS, 2, None), (tiff.CFA_PATTERN, 4, bytes([0, 1, 1, 2]))):
            entry = page.entries.get(tag)
            if entry is not None:
                stated[entry + 4 : entry + 8] = count.to_bytes(4, order)
                stated[entry + 8 : entry + 12] = value or 2 * (2).to_bytes(2, order)
    return bytes(stated)


def _remarks_on_pages(page: Page | None, pages: Sequence[Page]) -> list[str]:
    remarks = []
    others = [other for other in pages if other is not page and other.is_raw]
    if page is not None and others:
        sizes = ", ".join(f"{width}x{height}" for height, width in (other.shape for other in others))
        remarks.append(
            f"holds {len(others) + 1} raw pages; that of {page.shape[1]}x{page.shape[0]} is read, not {sizes}"
        )
    if page is not None and page.samples > 1:
        remarks.append(f"holds {page.samples} frames; the first is read")
    return remarks


def _gains(balance: Sequence[float]) -> Gains | None:
    red, green, blue, second = (*balance, 0.0)[:4]
    green = (green + second) / 2 if second else green
    return (red / green, 1.0, blue / green) if min(red, green, blue) > 0 else None


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as file:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise UnsupportedError(f"{path} is damaged: it is empty") from None
        with data:
            yield data


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file's name before each error about its tags."""
    try:
        yield
    except DataError as error:
        if str(path) in str(error):
            raise
        raise DataError(f"{path} is damaged: {error}") from error
