"""Photographs from files, at the depth they were stored in."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer
from PIL import Image, ImageOps

from compresskit.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
"""Endings of the files that count as photographs, in any case."""

COLOUR_MODES = ("RGB", "RGBA", "RGBX", "P", "CMYK", "YCbCr")
ORIENTATION = 0x0112
"""EXIF tag; values from 5 on swap height and width."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself before it is decoded."""

    height: int
    """Pixels, as the photograph is meant to be seen: after the turn that EXIF asks for."""
    width: int
    deep: bool
    """16 bits a channel; else 8."""

    @property
    def bytes(self) -> int:
        """Memory that the decoded photograph takes."""
        return self.height * self.width * (6 if self.deep else 3)


def read_header(path: Path) -> Header:
    """Size and depth of a photograph. A PNG's checksums are verified too.

    Raises:
        DataError: The file is damaged, no picture, or grey. The message names it.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            mode, deep = image.mode, any(";16" in str(tile.args) for tile in image.tile)
            if _is_turned(image, deep=deep):
                width, height = height, width
            image.verify()
    except Exception as error:  # Pillow's readers raise whatever their format's code runs into
        raise DataError(f"{path} cannot be read as a photograph: {_reason(error)}") from error
    if mode not in COLOUR_MODES:
        raise DataError(
            f"{path} is not a colour photograph (its mode is {mode}); demosaicing needs red, green and blue"
        )
    return Header(height, width, deep)


def read_picture(path: Path, header: Header) -> Integer[np.ndarray, "h w 3"]:
    """The photograph's values as stored, uint8 or uint16; an alpha channel is left out.

    Raises:
        DataError: The file is damaged. The message names it.
    """
    try:
        picture = _read_deep(path) if header.deep else _read_8_bit(path)
    except Exception as error:  # as above, and tifffile's and torchvision's own
        raise DataError(f"{path} cannot be decoded: {_reason(error)}") from error
    if picture.shape[:2] != (header.height, header.width):
        raise DataError(f"{path} was {header.height}x{header.width} pixels and is now {picture.shape[:2]}: it changed")
    return picture


def _is_turned(image: Image.Image, *, deep: bool) -> bool:
    # cameras write the tag into JPEG, WebP and TIFF; asking a PNG for it would decode the whole picture
    return not deep and image.format != "PNG" and image.getexif().get(ORIENTATION, 1) >= 5


def _read_8_bit(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        upright = image if image.format == "PNG" else ImageOps.exif_transpose(image)
        return np.asarray(upright.convert("RGB"))


def _read_deep(path: Path) -> np.ndarray:
    # Pillow opens both kinds but drops the low byte
    if path.suffix.lower() in (".tif", ".tiff"):
        import tifffile

        picture = tifffile.imread(path, key=0)
        picture = np.moveaxis(picture, 0, -1) if picture.shape[0] in (3, 4) else picture
    else:
        from torchvision.io import ImageReadMode, decode_image

        planes = decode_image(str(path), mode=ImageReadMode.UNCHANGED)
        picture = planes.permute(1, 2, 0).numpy()
    return np.ascontiguousarray(picture[..., :3])


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
