"""Binary mosaics without a header, or with one to skip: 8 or 16 bits a pixel, or fewer packed into whole bytes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8, UInt16

from compresskit.errors import DataError

Packing = Literal["raw8", "raw10", "raw10p", "raw12", "raw12p", "raw14", "raw14p", "raw16", "raw16be"]


GROUPS: dict[str, tuple[int, int]] = {
    "raw8": (1, 1),
    "raw10": (4, 5),
    "raw10p": (4, 5),
    "raw12": (2, 3),
    "raw12p": (2, 3),
    "raw14": (4, 7),
    "raw14p": (4, 7),
    "raw16": (1, 2),
    "raw16be": (1, 2),
}
"""Pixels and bytes of the smallest group that fills whole bytes, by packing."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The order of the bytes in a binary mosaic.

    - `raw8`: a byte a pixel.
    - `raw10`: four pixels in five bytes: the upper eight bits of each, then the lower two of all, from the last pixel
      to the first.
    - `raw12`: two pixels in three bytes: the upper eight bits of each, then the lower four of the second and the first.
    - `raw14`: four pixels in seven bytes: the upper eight bits of each, then the lower six of all as one number of
      three bytes, the lowest byte first, with the first pixel in its lowest bits.
    - `raw10p`, `raw12p`, `raw14p`: the bits of all pixels one after the other, the lowest first.
    - `raw16`: two bytes a pixel, the lower one first; `raw16be`: the higher one first.

    Source: V4L2's Y10P, Y12P and SRGGB14P (kernel.org, media/uapi/v4l), for 10 and 12 bits the same as Android's
    ImageFormat RAW10 and RAW12; EMVA's *Pixel Format Naming Convention* 2.4, section 4.4, for the formats in `p`.
    """

    packing: Packing
    width: int
    height: int
    stride: int | None = None
    """Bytes from the start of one row to the next; None if rows follow each other without a gap."""
    header: int = 0
    """Bytes to skip before the first row."""
    footer: int | None = 0
    """Bytes to skip after the last row; None skips what there is."""

    @property
    def row_bytes(self) -> int:
        """Bytes that a row's pixels take."""
        pixels, length = GROUPS[self.packing]
        if self.packing.endswith("p"):  # bits without groups: the last byte may be begun
            return -(-self.width * length // pixels)
        return -(-self.width // pixels) * length

    @property
    def white(self) -> float | None:
        """The largest number that a pixel can hold; None for 16 bits, which mostly hold smaller numbers."""
        bits = int(self.packing.strip("rawbep"))
        return 2.0**bits - 1 if bits < 16 else None


def read_binary(path: Path, layout: Layout) -> tuple[UInt16[np.ndarray, "h w"], tuple[str, ...]]:
    """Read the numbers of a binary mosaic, and remarks about bytes that are skipped.

    Raises:
        DataError: The file is not as long as the layout says, or the stride is shorter than a row.
    """
    stride = layout.row_bytes if layout.stride is None else layout.stride
    if stride < layout.row_bytes:
        raise DataError(
            f"{path}: a row of {layout.width} pixels in {layout.packing} takes {layout.row_bytes} bytes, more than the "
            f"stride of {stride}"
        )
    size = path.stat().st_size - layout.header - (layout.footer or 0)
    last, full = (layout.height - 1) * stride + layout.row_bytes, layout.height * stride
    if size not in (last, full) and not (layout.footer is None and size > full):  # the last row may lack its padding
        skipped = f", {layout.header} of them to skip" if layout.header else ""
        raise DataError(
            f"{path} has {path.stat().st_size} bytes{skipped}; {layout.width}x{layout.height} pixels in "
            f"{layout.packing} with a stride of {stride} take {full}: give the right size (width x height), stride or "
            "packing, or --skip for bytes before and after them"
        )
    stored = np.fromfile(path, np.uint8, count=min(size, full), offset=layout.header)
    stored = np.pad(stored, (0, full - len(stored))).reshape(layout.height, stride)
    remarks = (f"the last {size - full} bytes are taken as a footer",) if size > full else ()
    return _numbers(stored[:, : layout.row_bytes], layout.packing)[:, : layout.width], remarks


def _numbers(rows: UInt8[np.ndarray, "h bytes"], packing: Packing) -> UInt16[np.ndarray, "h w"]:
    if packing == "raw8":
        return rows.astype(np.uint16)
    if packing in ("raw16", "raw16be"):
        return np.ascontiguousarray(rows).view("<u2" if packing == "raw16" else ">u2").astype(np.uint16, copy=False)
    pixels, length = GROUPS[packing]
    bits = 8 * length // pixels
    if packing.endswith("p"):
        rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % length)))
        return _split(rows.reshape(len(rows), -1, length), bits).reshape(len(rows), -1)
    groups = rows.reshape(len(rows), -1, length)
    low = groups[:, :, pixels:] if packing == "raw14" else groups[:, :, -1:]
    numbers = groups[:, :, :pixels].astype(np.uint16) << (bits - 8) | _split(low, bits - 8)
    return numbers.reshape(len(rows), -1)


def _split(groups: UInt8[np.ndarray, "h groups bytes"], bits: int) -> UInt16[np.ndarray, "h groups pixels"]:
    """Return the numbers of so many bits in each group of bytes, the lowest bits first."""
    whole = np.zeros(groups.shape[:2], np.uint64)
    for at in range(groups.shape[2]):
        whole |= groups[:, :, at].astype(np.uint64) << np.uint64(8 * at)
    shifts = np.arange(0, 8 * groups.shape[2], bits, dtype=np.uint64)
    return (whole[:, :, None] >> shifts & np.uint64(2**bits - 1)).astype(np.uint16)
