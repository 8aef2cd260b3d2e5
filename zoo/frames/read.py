"""Mosaics from files: PNG, TIFF, NumPy, binary dumps and camera files; and photographs and defect maps beside them."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped
from PIL import Image

from compresskit.errors import DataError, first_line
from zoo.frames.camera import CAMERA_SUFFIXES, read_camera
from zoo.frames.frame import Frame
from zoo.frames.mipi import Layout, read_binary
from zoo.raw.photographs.read import SUFFIXES, read_header, read_picture
from zoo.raw.sensor.cfa import CFA

BINARY_SUFFIXES = (".raw", ".bin", ".raw10", ".raw12", ".raw16")


MOST_PIXELS = 500_000_000
"""Most pixels of a frame: more than twice today's largest sensors. A file that claims more is damaged, or an attack."""


def read_mosaic(path: Path, *, layout: Layout | None = None) -> Frame:
    """Read a mosaic from a PNG, TIFF, `.npy`, a binary dump with its layout, a DNG or another camera file.

    Raises:
        DataError: There is no such file, its kind is unknown, or it is damaged, too large or no mosaic.
    """
    kind = check_file(path).suffix.lower()
    if kind in BINARY_SUFFIXES:
        if layout is None:
            raise DataError(
                f"{path} has no header: say how it is packed and its size, --packing raw10 --size 4000x3000"
            )
        _check_size(path, layout.height, layout.width)
        return Frame(name=path.stem, values=read_binary(path, layout), black=None, white=layout.white)
    if layout is not None:
        raise DataError(f"{path} has a header: packing, size and stride are for {', '.join(BINARY_SUFFIXES)} files")
    if kind in CAMERA_SUFFIXES:
        return read_camera(path)
    if kind not in READERS:
        known = ", ".join([*READERS, *BINARY_SUFFIXES, *CAMERA_SUFFIXES])
        raise DataError(f"{path}: no mosaic has the ending {kind!r}; known: {known}")
    values = READERS[kind](path)
    black, white = {"f": (0.0, 1.0), "u1": (0.0, 255.0)}.get(
        values.dtype.kind if values.dtype.kind == "f" else values.dtype.str[1:], (None, None)
    )
    return Frame(name=path.stem, values=values, black=black, white=white)


def simulate_mosaic(path: Path, cfa: CFA) -> Frame:
    """Read a colour photograph as the mosaic that a sensor with this array would see, in the photograph's numbers.

    Raises:
        DataError: There is no such file, or it is damaged, grey or no picture.
    """
    if check_file(path).suffix.lower() not in SUFFIXES:
        raise DataError(f"{path}: a photograph ends in {', '.join(SUFFIXES)}")
    header = read_header(path)
    _check_size(path, header.height, header.width)
    picture = read_picture(path, header)
    tile = np.array([["RGB".index(colour) for colour in row] for row in cfa.tile])
    rows, columns = (np.arange(side) for side in picture.shape[:2])
    colours = tile[np.ix_(rows % cfa.period, columns % cfa.period)]
    values = np.take_along_axis(picture, colours[:, :, None], axis=2)[:, :, 0]
    white = float(np.iinfo(values.dtype).max)
    return Frame(name=path.stem, values=values, cfa=cfa, black=0.0, white=white, domain="display")


def read_defects(path: Path) -> Shaped[np.ndarray, "h w"]:
    """Read a map of defect pixels, a grey PNG or TIFF or a `.npy`; True at defects, where the file is not zero.

    Raises:
        DataError: There is no such file, or it is damaged or no picture.
    """
    kind = check_file(path).suffix.lower()
    if kind not in READERS:
        raise DataError(f"{path}: a map of defects ends in {', '.join(READERS)}")
    return READERS[kind](path) != 0


def check_file(path: Path) -> Path:
    """Return the path if it is a file.

    Raises:
        DataError: It is a folder, or does not exist.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise DataError(f"{path} {what}; give a file")
    return path


def _check_size(path: Path, height: int, width: int) -> None:
    if height * width > MOST_PIXELS:
        raise DataError(
            f"{path} claims to be {width}x{height} pixels, {height * width / 1e6:,.0f} megapixels; at most "
            f"{MOST_PIXELS / 1e6:,.0f} are read"
        )


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Turn any error of a decoder inside the block into one sentence that names the file."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        reason = "it holds no plain numbers" if "pickle" in str(error) else first_line(error)  # not NumPy's advice
        raise DataError(f"{path} is damaged, or not what its ending says: {reason}") from error


def _npy(path: Path) -> np.ndarray:
    with _decoding(path):
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    if stored.ndim != 2 or stored.dtype.kind not in "uif":
        raise DataError(f"{path} is no mosaic: it holds {stored.dtype} of shape {stored.shape}, not (height, width)")
    _check_size(path, *stored.shape)
    return np.array(stored, dtype=stored.dtype.newbyteorder("="))


def _tiff(path: Path) -> np.ndarray:
    import tifffile

    with _decoding(path), tifffile.TiffFile(path) as file:
        page: Any = file.pages[0]
        if len(file.pages) > 1:
            raise DataError(f"{path} holds {len(file.pages)} pictures; give a file of one")
        if page.samplesperpixel != 1 or len(page.shape) != 2:
            raise DataError(f"{path} is no mosaic but a picture of {page.samplesperpixel} colours; see --mosaic")
        _check_size(path, *page.shape)
        return page.asarray()


def _png(path: Path) -> np.ndarray:
    with _decoding(path):
        with path.open("rb") as file:
            start = file.read(24)
        width, height = struct.unpack(">II", start[16:24])
        _check_size(path, height, width)
        with _large_pictures(), Image.open(path, formats=["PNG"]) as image:
            if image.mode not in ("I;16", "L"):
                raise DataError(f"{path} is no mosaic: its pixels are {image.mode}, not grey; see --mosaic")
            return np.asarray(image)


@contextmanager
def _large_pictures() -> Iterator[None]:
    """Let Pillow open frames inside the block that it would take for an attack; their size is checked before."""
    most, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = most


READERS = {".npy": _npy, ".png": _png, ".tif": _tiff, ".tiff": _tiff}
"""Functions from a file to its grey numbers, by ending."""
