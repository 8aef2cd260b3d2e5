"""Photographs from files, at the depth they were stored in."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer
from PIL import Image, ImageFile, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from compresskit.errors import DataError, first_line

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
"""Endings of the files that count as photographs, in any case."""


FORMATS = ("PNG", "JPEG", "WEBP", "TIFF")
"""Pillow's names of their formats: by a file's content it would choose others, and start a program for PostScript."""


COLOUR_MODES = ("RGB", "RGBA", "RGBX", "P", "CMYK", "YCbCr")


ORIENTATION = 0x0112
"""EXIF tag; values from 5 on swap height and width."""


BITS_PER_SAMPLE = 0x0102
"""TIFF tag."""


@dataclass(frozen=True, slots=True)
class Header:
    """Size and depth of a photograph, known before it is decoded."""

    height: int
    """Height in pixels of the upright photograph, after the turn that EXIF states."""
    width: int
    deep: bool
    """True for 16 bits a channel, False for 8."""

    @property
    def bytes(self) -> int:
        """Memory of the decoded photograph."""
        return self.height * self.width * (6 if self.deep else 3)


def read_header(path: Path) -> Header:
    """Read size and depth of a photograph. A PNG's checksums are verified too.

    Raises:
        DataError: The file is damaged, no picture, grey, or of a layout that cannot be read. The message names it.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            if _is_turned(image):
                width, height = height, width
            mode, deep, bits = image.mode, _is_deep(image), _bits(image)
            image.verify()
    except Exception as error:  # Pillow's readers raise any error that their format's code meets
        raise DataError(f"{path} cannot be read as a photograph: {first_line(error)}") from error
    if mode not in COLOUR_MODES:
        raise DataError(
            f"{path} is not a colour photograph (its mode is {mode}); demosaicing needs red, green and blue"
        )
    if bits > 8 and not deep:
        raise DataError(f"{path} is a TIFF of separate planes of {bits} bits; save it with interleaved colours")
    return Header(height, width, deep)


def read_picture(path: Path, header: Header) -> Integer[np.ndarray, "h w 3"]:
    """Read a photograph's values as stored, uint8 or uint16; an alpha channel is left out.

    Raises:
        DataError: The file is damaged. The message names it.
    """
    try:
        picture = _decode(path)
        if header.deep:
            picture = picture.astype(np.uint16) << 8 | _decode(path, low=True)
    except Exception as error:  # as above
        raise DataError(f"{path} cannot be decoded: {first_line(error)}") from error
    if picture.shape[:2] != (header.height, header.width):
        raise DataError(f"{path} was {header.height}x{header.width} pixels and is now {picture.shape[:2]}: it changed")
    return picture


def _decode(path: Path, *, low: bool = False) -> np.ndarray:
    """Decode the high byte of each value, or the low one: Pillow returns one byte a value, and can be told which."""
    with Image.open(path, formats=FORMATS) as image:
        if low:
            image.tile = [tile._replace(args=_of_low_byte(tile.args)) for tile in image.tile]
        upright = ImageOps.exif_transpose(image) if _is_turnable(image) else image
        return np.asarray(upright.convert("RGB"))


def _of_low_byte(arguments: Any) -> Any:
    """Return a decoder's arguments for the other byte order."""
    if not isinstance(arguments, str):
        return (_of_low_byte(arguments[0]), *arguments[1:])
    mode, _, order = arguments.partition(";16")
    little = order == "L" or (order == "N" and sys.byteorder == "little")
    return f"{mode};16{'B' if little else 'L'}"


def _is_deep(image: ImageFile.ImageFile) -> bool:
    return any(";16" in str(tile.args) for tile in image.tile)


def _bits(image: Image.Image) -> int:
    return max(image.tag_v2.get(BITS_PER_SAMPLE, (8,))) if isinstance(image, TiffImageFile) else 8


def _is_turnable(image: Image.Image) -> bool:
    # cameras write the tag into JPEG, WebP and TIFF; reading it from a PNG would decode the whole picture
    return image.format != "PNG"


def _is_turned(image: Image.Image) -> bool:
    return _is_turnable(image) and image.getexif().get(ORIENTATION, 1) >= 5
