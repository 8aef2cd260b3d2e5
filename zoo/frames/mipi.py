"""Binary mosaics without a header: 16-bit numbers, or the packed layouts of MIPI cameras."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8, UInt16

from compresskit.errors import DataError

Packing = Literal["raw10", "raw12", "raw16"]


GROUPS: dict[str, tuple[int, int]] = {"raw10": (4, 5), "raw12": (2, 3), "raw16": (1, 2)}
"""Pixels and bytes of the smallest group that fills whole bytes, by packing."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The order of the bytes in a binary mosaic.

    - `raw10`: four pixels in five bytes: the upper eight bits of each, then the lower two of all, from the last pixel
      to the first.
    - `raw12`: two pixels in three bytes: the upper eight bits of each, then the lower four of the second and the first.
    - `raw16`: two bytes a pixel, the lower one first.

    Source: V4L2's Y10P and Y12P (kernel.org, media/uapi/v4l), the same as Android's ImageFormat RAW10 and RAW12.
    """

    packing: Packing
    width: int
    height: int
    stride: int | None = None
    """Bytes from the start of one row to the next; None if rows follow each other without a gap."""

    @property
    def row_bytes(self) -> int:
        """Bytes that a row's pixels take."""
        pixels, length = GROUPS[self.packing]
        return -(-self.width // pixels) * length

    @property
    def white(self) -> float | None:
        """The largest number that a pixel can hold; None for 16 bits, which mostly hold smaller numbers."""
        return {"raw10": 1023.0, "raw12": 4095.0}.get(self.packing)


def read_binary(path: Path, layout: Layout) -> UInt16[np.ndarray, "h w"]:
    """Read the numbers of a binary mosaic.

    Raises:
        DataError: The file is not as long as the layout says, or the stride is shorter than a row.
    """
    stride = layout.row_bytes if layout.stride is None else layout.stride
    if stride < layout.row_bytes:
        raise DataError(
            f"{path}: a row of {layout.width} pixels in {layout.packing} takes {layout.row_bytes} bytes, more than the "
            f"stride of {stride}"
        )
    size, last = path.stat().st_size, (layout.height - 1) * stride + layout.row_bytes
    if size not in (last, layout.height * stride):  # the last row's padding may be missing
        raise DataError(
            f"{path} has {size} bytes; {layout.width}x{layout.height} pixels in {layout.packing} with a stride of "
            f"{stride} take {layout.height * stride}: give the right size (width x height), stride or packing"
        )
    stored = np.fromfile(path, np.uint8)
    stored = np.pad(stored, (0, layout.height * stride - size)).reshape(layout.height, stride)
    return _numbers(stored[:, : layout.row_bytes], layout.packing)[:, : layout.width]


def _numbers(rows: UInt8[np.ndarray, "h bytes"], packing: Packing) -> UInt16[np.ndarray, "h w"]:
    pixels, length = GROUPS[packing]
    if packing == "raw16":
        return np.ascontiguousarray(rows).view("<u2").astype(np.uint16, copy=False)
    groups = rows.reshape(len(rows), -1, length)
    bits = 8 // pixels
    low = groups[:, :, -1:] >> np.arange(0, 8, bits, dtype=np.uint8) & np.uint8(2**bits - 1)
    numbers = groups[:, :, :pixels].astype(np.uint16) << bits | low
    return numbers.reshape(len(rows), -1)
