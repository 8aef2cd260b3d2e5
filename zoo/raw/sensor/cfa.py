"""Colour filter arrays: which colour each pixel of a sensor sees, and how a mosaic is laid out for a network.

A CFA repeats one square tile over the sensor. In Bayer-like arrays the tile is two by two blocks of one colour each:

    bayer  1x1 blocks, period 2        nona  3x3 blocks, period 6
    quad   2x2 blocks, period 4        qxq   4x4 blocks, period 8

The phase names the blocks in reading order. GRBG, the default, has red top-right and blue bottom-left:

    quad-grbg   G G R R
                G G R R
                B B G G
                B B G G
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Shaped
from torch import Tensor

from compresskit.errors import RecipeError, ShapeError, close_names
from zoo.raw.sensor import four_axes

BLOCKS = {"bayer": 1, "quad": 2, "nona": 3, "qxq": 4}
"""Side of a block of one colour, in pixels, by name of the array."""


PHASES = ("grbg", "rggb", "bggr", "gbrg")
"""The colours of the four blocks of a tile, in reading order."""


class CFA:
    """A colour filter array, made from its tile.

    Arrays with the same tile are equal and hash alike. `mosaic`, `separate`, `pack` and `unpack` are made of views and
    selections: they work on any device and dtype, pass gradients, and after `torch.jit.trace` or `torch.export` are
    still right for other inputs and sizes.

    Args:
        tile: The repeating square, row by row, in the letters R, G and B: `CFA(["GR", "BG"])`.

    Raises:
        RecipeError: The tile is not square, or has other letters.
    """

    def __init__(self, tile: Sequence[str]) -> None:
        self.tile = tuple(row.upper() for row in tile)
        text = " / ".join(self.tile)
        if not self.tile or any(len(row) != len(self.tile) for row in self.tile):
            raise RecipeError(f"a CFA tile must be square, got {text or 'nothing'}")
        if extra := sorted(set(text) - set("RGB /")):
            raise RecipeError(f"a CFA tile is written in R, G and B, got {', '.join(map(repr, extra))} in {text}")
        masks = [[[colour == letter for letter in row] for row in self.tile] for colour in "RGB"]
        self._masks = torch.tensor(masks, device="cpu")
        self._mask_array = self._masks.numpy()

    @classmethod
    def named(cls, name: str = "qxq", phase: str = "grbg") -> "CFA":
        """Return the array of this name (bayer, quad, nona, qxq) and phase (grbg, rggb, bggr, gbrg).

        Raises:
            RecipeError: There is no such name or phase.
        """
        if name not in BLOCKS:
            raise RecipeError(f"there is no CFA {name!r}{close_names(name, BLOCKS)}")
        if phase not in PHASES:
            raise RecipeError(f"there is no CFA phase {phase!r}{close_names(phase, PHASES)}")
        return cls(_blocks(phase, BLOCKS[name]))

    @classmethod
    def of(cls, cfa: "CFA | str") -> "CFA":
        """Return the array itself, or that of a name, `qxq` or `quad-rggb`, or of a tile, `RGB/GBR/BRG`."""
        if isinstance(cfa, CFA):
            return cfa
        if "/" in cfa:
            return cls([row.strip() for row in cfa.split("/")])
        name, _, phase = str(cfa).lower().partition("-")
        return cls.named(name, phase or "grbg")

    @property
    def period(self) -> int:
        """Side of the tile in pixels. A mosaic is a whole number of tiles high and wide."""
        return len(self.tile)

    @property
    def phase(self) -> str | None:
        """`grbg`, `rggb`, `bggr` or `gbrg`; None for a tile that is not two by two blocks with green on a diagonal."""
        corners = "".join(row[column] for row in (self.tile[0], self.tile[-1]) for column in (0, -1)).lower()
        regular = corners in PHASES and self.tile == _blocks(corners, self.period // 2)
        return corners if regular else None

    @property
    def block(self) -> int:
        """Side in pixels of a block of one colour.

        Raises:
            ShapeError: The tile is not two by two blocks with green on a diagonal.
        """
        if self.phase is None:
            raise ShapeError(
                f"{self} has no planes to pack: its tile is not two by two blocks with green on a diagonal; "
                "its mosaic and masks can be used"
            )
        return self.period // 2

    @property
    def grain(self) -> int:
        """Scale of interpolation in pixels: the side of the largest square that every colour fills, such as a block.

        It is at least half the side of the largest square that lacks a colour.
        """
        colours = self._masks.float().repeat(1, 3, 3)[:, None]  # every square up to the tile's size lies in three tiles
        sides = range(1, self.period + 1)
        squares = [F.avg_pool2d(colours, side, stride=1) for side in sides]
        alike = [min(int((shares == 1).any()) for shares in square) for square in squares]
        lacking = [side for side, square in zip(sides, squares, strict=True) if (square == 0).any()]
        return max(1, sum(alike), -(-max(lacking, default=0) // 2))

    @property
    def name(self) -> str:
        """The name that `of` reads, such as `qxq-grbg`; the tile itself for an array without a name."""
        names = [name for name, block in BLOCKS.items() if 2 * block == self.period]
        return f"{names[0]}-{self.phase}" if names and self.phase else " / ".join(self.tile)

    def rolled(self, rows: int, columns: int) -> "CFA":
        """Return the array that begins so many pixels earlier: its pixel (rows, columns) is this array's first."""
        tile = self.tile[-rows % self.period :] + self.tile[: -rows % self.period]
        start = -columns % self.period
        return CFA([row[start:] + row[:start] for row in tile])

    def mosaic(self, rgb: Shaped[Tensor, "n c h w"]) -> Shaped[Tensor, "n 1 h w"]:
        """Return the mosaic that a sensor sees of a picture: each pixel in the one colour that its filter lets through.

        Args:
            rgb: Pictures, red, green, blue (n, 3, h, w); height and width are multiples of the period.

        Raises:
            ShapeError: There are not three channels, or the period does not divide the size.
        """
        self._check(rgb, channels=3, period=self.period, what="a picture")
        if _is_exporting(rgb):
            return four_axes.mosaic(rgb, self._mask_array)
        masks = self._masks.to(rgb.device)[:, :, None, :]
        tiles = rgb.unflatten(-2, (-1, self.period)).unflatten(-1, (-1, self.period))
        red, green, blue = tiles.unbind(1)
        mosaic = torch.where(masks[0], red, torch.where(masks[1], green, blue))
        return mosaic.flatten(-2).flatten(-3, -2).unsqueeze(1)

    def separate(self, mosaic: Shaped[Tensor, "n c h w"]) -> Shaped[Tensor, "n 3 h w"]:
        """Return the mosaic's values in the channel of their colour, red, green, blue, and zeros elsewhere.

        Args:
            mosaic: Mosaics (n, 1, h, w); height and width are multiples of the period.

        Raises:
            ShapeError: There is more than one channel, or the period does not divide the size.
        """
        self._check(mosaic, channels=1, period=self.period, what="a mosaic")
        if _is_exporting(mosaic):
            return four_axes.separate(mosaic, self._mask_array)
        tiles = mosaic.unflatten(-2, (-1, self.period)).unflatten(-1, (-1, self.period))
        masks = self._masks.to(mosaic.device)[:, None, :, None, :]
        return torch.where(masks, tiles, 0).flatten(-2).flatten(-3, -2)

    def pack(self, mosaic: Shaped[Tensor, "n c h w"]) -> Shaped[Tensor, "n 4 h2 w2"]:
        """Return the mosaic as four planes of half its size: blue, green of red's rows, red, green of blue's rows.

        Each plane lays the blocks of its colour side by side, so within a plane neighbours are one pixel apart inside a
        block and `block + 1` pixels between blocks. This is the order and layout of PyNET-QxQ's release.

        Args:
            mosaic: Mosaics (n, 1, h, w); height and width are multiples of the period.

        Raises:
            ShapeError: There is more than one channel, the period does not divide the size, or the tile has no planes.
        """
        block = self.block
        self._check(mosaic, channels=1, period=self.period, what="a mosaic")
        if _is_exporting(mosaic):
            return four_axes.pack(mosaic, block, self._plane_positions())
        blocks = mosaic.squeeze(1).unflatten(-2, (-1, 2, block)).unflatten(-1, (-1, 2, block))
        planes = [blocks[:, :, i, :, :, j].flatten(3, 4).flatten(1, 2) for i, j in self._plane_positions()]
        return torch.stack(planes, dim=1)

    def unpack(self, packed: Shaped[Tensor, "n c h2 w2"]) -> Shaped[Tensor, "n 1 h w"]:
        """Return the mosaic of four packed planes: the exact inverse of `pack`.

        Args:
            packed: Planes in the order of `pack` (n, 4, h/2, w/2); height and width are multiples of the block.

        Raises:
            ShapeError: There are not four planes, the block does not divide their size, or the tile has no planes.
        """
        block = self.block
        self._check(packed, channels=4, period=block, what="a packed mosaic")
        if _is_exporting(packed):
            return four_axes.unpack(packed, block, self._plane_positions())
        planes = packed.unflatten(-2, (-1, block)).unflatten(-1, (-1, block)).unbind(1)
        plane = dict(zip(self._plane_positions(), planes, strict=True))
        rows = [torch.stack([plane[i, 0], plane[i, 1]], dim=-2) for i in (0, 1)]
        return torch.stack(rows, dim=2).flatten(4, 6).flatten(1, 3).unsqueeze(1)

    def to_input(self, mosaic: Shaped[Tensor, "n c h w"]) -> Shaped[Tensor, "n planes h2 w2"]:
        """Return a module's input: the packed planes, or the mosaic itself where the array has no planes."""
        return mosaic if self.phase is None else self.pack(mosaic)

    def from_input(self, planes: Shaped[Tensor, "n planes h2 w2"]) -> Shaped[Tensor, "n 1 h w"]:
        """Return the mosaic of a module's input: the exact inverse of `to_input`."""
        return planes if self.phase is None else self.unpack(planes)

    def extend(
        self, mosaic: Shaped[Tensor, "n 1 h w"], pixels: tuple[int, int, int, int]
    ) -> Shaped[Tensor, "n 1 h2 w2"]:
        """Return the mosaic continued past its borders with copies of its outermost tiles, which keeps the phase.

        Args:
            mosaic: Mosaics of at least one tile.
            pixels: Pixels to add at the left, right, top and bottom: the order of `torch.nn.functional.pad`.
        """
        left, right, top, bottom = pixels
        for axis, before, after in ((-1, left, right), (-2, top, bottom)):
            tiles = -(-max(before, after) // self.period)
            if tiles == 0:
                continue
            first = torch.cat([mosaic.narrow(axis, 0, self.period)] * tiles, axis)
            last = torch.cat([mosaic.narrow(axis, -self.period, self.period)] * tiles, axis)
            start, end = first.narrow(axis, tiles * self.period - before, before), last.narrow(axis, 0, after)
            mosaic = torch.cat([start, mosaic, end], axis)
        return mosaic

    def masks(self, height: int, width: int) -> Bool[Tensor, "3 h w"]:
        """Return masks of the pixels that see red, green and blue.

        Raises:
            ShapeError: The period does not divide the size.
        """
        self.check_size(height, width, what="masks")
        return self._masks.repeat(1, height // self.period, width // self.period)

    def check_size(self, height: int, width: int, *, what: str) -> None:
        """Refuse a size in pixels that is no whole number of tiles; the message names the nearest sizes that are.

        Raises:
            ShapeError: The period does not divide the size.
        """
        _check_multiple(height, width, self.period, f"{what} of {self}")

    def _plane_positions(self) -> list[tuple[int, int]]:
        """Return row and column, in the two by two blocks, of blue, green of red's row, red, green of blue's row."""
        phase = self.phase or ""
        (red, i), (blue, j) = divmod(phase.index("r"), 2), divmod(phase.index("b"), 2)
        return [(blue, j), (red, j), (red, i), (blue, i)]

    def _check(self, tensor: Tensor, *, channels: int, period: int, what: str) -> None:
        # a trace would warn that it keeps the outcome, an export would demand it as a constraint on the size
        tracing = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
        if tracing or torch.compiler.is_compiling():
            return
        if tensor.ndim != 4 or tensor.shape[1] != channels:
            raise ShapeError(f"{what} must be (n, {channels}, height, width), got {tuple(tensor.shape)}")
        _check_multiple(tensor.shape[2], tensor.shape[3], period, f"{what} of {self}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CFA) and self.tile == other.tile

    def __hash__(self) -> int:
        return hash(self.tile)

    def __repr__(self) -> str:
        return f"CFA({self.name})"


def _is_exporting(tensor: Tensor) -> bool:
    """Return whether a model with floating-point numbers is exported, for runtimes that take four axes at most."""
    return torch.compiler.is_exporting() and tensor.is_floating_point()


def _blocks(phase: str, block: int) -> tuple[str, ...]:
    letters = phase.upper()
    return tuple(letters[i] * block + letters[i + 1] * block for i in (0, 2) for _ in range(block))


def _check_multiple(height: int, width: int, multiple: int, what: str) -> None:
    if height >= multiple and width >= multiple and height % multiple == 0 and width % multiple == 0:
        return
    below, above = [
        tuple(max(multiple, (side + step) // multiple * multiple) for side in (height, width))
        for step in (0, multiple - 1)
    ]
    near = f"{above[0]}x{above[1]}" if below == above else f"{below[0]}x{below[1]} or {above[0]}x{above[1]}"
    raise ShapeError(f"{what}: height and width must be multiples of {multiple}, got {height}x{width}; nearest: {near}")
