"""Corrections that a DNG asks for. Gain maps, which undo the lens's shading, are applied; the others are named.

Source: Adobe, *Digital Negative Specification*, version 1.7.1.0, chapter 7.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int

from compresskit.errors import DataError
from zoo.frames.camera import tiff
from zoo.frames.camera.geometry import Geometry
from zoo.frames.frame import Shading
from zoo.raw.sensor.cfa import CFA

GAIN_MAP = 9


NAMES = {
    1: "WarpRectilinear",
    2: "WarpFisheye",
    3: "FixVignetteRadial",
    4: "FixBadPixelsConstant",
    5: "FixBadPixelsList",
    6: "TrimBounds",
    7: "MapTable",
    8: "MapPolynomial",
    GAIN_MAP: "GainMap",
    10: "DeltaPerRow",
    11: "DeltaPerColumn",
    12: "ScalePerRow",
    13: "ScalePerColumn",
    14: "WarpRectilinear2",
}
"""Names of the corrections, by number."""


@dataclass(frozen=True)
class GainMap:
    """Gains on a grid over the active area, between which they are linear."""

    area: tuple[int, int, int, int]
    """Top, left, bottom and right of the pixels that it is for."""
    planes: range
    """Colours that it is for, when it is applied to a picture."""
    pitch: tuple[int, int]
    """Rows from one pixel that it is for to the next, and columns."""
    spacing: tuple[float, float]
    """Distance of the grid's points, as a share of the height and of the width."""
    origin: tuple[float, float]
    """Place of the grid's first point, as a share."""
    gains: Float32[np.ndarray, "rows columns planes"]

    def of(
        self,
        rows: Int[np.ndarray, " h"],
        columns: Int[np.ndarray, " w"],
        shape: tuple[int, int],
        plane: int = 0,
    ) -> Float32[np.ndarray, "h w"]:
        """Return the gain of each pixel in these rows and columns of the active area, 1 where it is for others.

        Args:
            rows: Rows, counted from the active area's corner.
            columns: Columns.
            shape: Height and width of the active area.
            plane: The map for one colour, counted from the first that this is for.
        """
        below, part_below = self._between(rows, shape, 0)
        right, part_right = self._between(columns, shape, 1)
        grid = self.gains[:, :, min(plane, self.gains.shape[2] - 1)]
        lines = (
            grid[below] * (1 - part_below)[:, None] + grid[np.minimum(below + 1, len(grid) - 1)] * part_below[:, None]
        )
        gains = lines[:, right] * (1 - part_right) + lines[:, np.minimum(right + 1, grid.shape[1] - 1)] * part_right
        concerned = self._concerns(rows, 0)[:, None] & self._concerns(columns, 1)
        return np.where(concerned, gains, np.float32(1))

    def _between(self, positions: np.ndarray, shape: tuple[int, int], axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the grid's point before each position, and the way from it to the next."""
        share = ((positions + 0.5) / shape[axis] - self.origin[axis]) / self.spacing[axis]
        share = np.clip(share, 0, self.gains.shape[axis] - 1)
        before = np.floor(share).astype(int)
        return before, (share - before).astype(np.float32)

    def _concerns(self, positions: np.ndarray, axis: int) -> np.ndarray:
        start, stop = self.area[axis], self.area[axis + 2]
        return (positions >= start) & (positions < stop) & ((positions - start) % self.pitch[axis] == 0)


def shading_of(geometry: Geometry, cfa: CFA | None, shape: tuple[int, int]) -> tuple[Shading | None, list[str]]:
    """Return the gains of the visible pixels' shading, and remarks about corrections that are not applied.

    Args:
        geometry: The place of the visible pixels.
        cfa: Their array, for maps that are for one colour.
        shape: Height and width of the visible pixels.

    Raises:
        DataError: A list of corrections is damaged.
    """
    mosaic_maps, colour_maps, others = _sorted(geometry, colours_are_known=cfa is not None)
    remarks = [f"asks for corrections that are not applied: {', '.join(dict.fromkeys(others))}"] if others else []
    if not mosaic_maps and not colour_maps:
        return None, remarks
    columns = np.arange(shape[1])
    colours = np.array([["RGB".index(letter) for letter in row] for row in (cfa.tile if cfa else ["G"])])

    def gains(start: int, stop: int) -> Float32[np.ndarray, "h w"]:
        rows = np.arange(start, stop)
        seen = colours[np.ix_(rows % len(colours), columns % len(colours))]
        product = np.ones(seen.shape, np.float32)
        at = rows + geometry.rows, columns + geometry.columns, geometry.area_shape
        for gain_map in mosaic_maps:
            product *= gain_map.of(*at)
        for gain_map in colour_maps:
            for colour in gain_map.planes:
                each = gain_map.of(*at, colour - gain_map.planes.start)
                product *= np.where(seen == colour, each, np.float32(1))
        return product

    return gains, ["its gain map is applied", *remarks]


def _sorted(geometry: Geometry, *, colours_are_known: bool) -> tuple[list[GainMap], list[GainMap], list[str]]:
    """Return the gain maps for the mosaic, those for a picture, and the names of all other corrections."""
    maps: dict[int, list[GainMap]] = {2: [], 3: []}
    others: list[str] = []
    lists = {} if geometry.page is None else geometry.page.numbers
    for number, tag in enumerate(tiff.OPCODE_LISTS, 1):
        for opcode, parameters in _opcodes(lists[tag].tobytes() if tag in lists else b""):
            if opcode == GAIN_MAP and (number == 2 or (number == 3 and colours_are_known)):
                maps[number].append(_gain_map(parameters))
            else:
                others.append(NAMES.get(opcode, f"opcode {opcode}"))
    return maps[2], maps[3], others


def _opcodes(stored: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the parameters of each correction in a list, which is big-endian in every file."""
    if not stored:
        return
    start = 4
    for _ in range(int.from_bytes(stored[:4], "big")):
        if start + 16 > len(stored):
            raise DataError("a list of corrections breaks off")
        opcode, _version, _flags, length = struct.unpack_from(">IIII", stored, start)
        if start + 16 + length > len(stored):
            raise DataError("a list of corrections breaks off")
        yield opcode, stored[start + 16 : start + 16 + length]
        start += 16 + length


def _gain_map(parameters: bytes) -> GainMap:
    if len(parameters) < 76:
        raise DataError(f"a gain map of {len(parameters)} bytes breaks off")
    *area, plane, planes, down, across, rows, columns = struct.unpack_from(">10I", parameters)
    *grid, map_planes = struct.unpack_from(">4dI", parameters, 40)
    count = rows * columns * map_planes
    if min(rows, columns, map_planes, down, across) < 1 or len(parameters) < 76 + 4 * count:
        raise DataError(f"a gain map of {columns}x{rows} points has {len(parameters)} bytes")
    gains = np.frombuffer(parameters, ">f4", count, 76).astype(np.float32).reshape(rows, columns, map_planes)
    if not (np.isfinite(gains).all() and np.isfinite(grid).all() and _spacing_is_usable(grid, rows, columns)):
        raise DataError("a gain map has numbers that cannot be used")
    return GainMap(
        area=_four(area),
        planes=range(plane, min(plane + planes, 3)),
        pitch=(down, across),
        spacing=(grid[0] or 1.0, grid[1] or 1.0),
        origin=(grid[2], grid[3]),
        gains=gains,
    )


def _spacing_is_usable(grid: Sequence[float], rows: int, columns: int) -> bool:
    """Return whether the points lie apart; a single row or column of points needs no distance."""
    return all(distance > 0 or count == 1 for distance, count in zip(grid[:2], (rows, columns), strict=True))


def _four(numbers: Sequence[int]) -> tuple[int, int, int, int]:
    top, left, bottom, right = numbers
    return top, left, bottom, right
