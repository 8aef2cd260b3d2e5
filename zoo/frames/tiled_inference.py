"""A demosaicing module made fit for a frame: divided so that it stays within a memory, and still right."""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from compresskit.errors import DataError
from zoo.frames.development import Development
from zoo.frames.fold_instance_norm import Window, folded, frame_statistics, normalised, sample_statistics
from zoo.frames.reach import MULTIPLE, peak_bytes, reach
from zoo.frames.tiling import Grid, Tile, divide, make, smallest_side
from zoo.pynet.blocks import Convolution
from zoo.raw.sensor.cfa import CFA

SCRATCH = 1.6
"""What tensors take, times this, is what the process takes at most: operations have memory of their own.

Measured in a process that gives memory back at once, see `zoo.frames.allocation`; in others it is more."""


FIXED = 2**29
"""Bytes that Python and the libraries take, whatever the tile."""


TRIED = 480
"""About the side in pixels of the picture that a module's memory is counted on."""


UNKNOWN = 2000.0
"""Bytes a pixel of a module that cannot be run without values."""


OVERLAP = 256
"""Pixels around the tiles of a module that no surroundings make exact."""


LEAST = 64
"""Smallest side in pixels: PyNET's level 5 needs it."""


SAMPLES = 16
"""Tiles whose statistics are pooled for a module that no surroundings make exact."""


@dataclass(frozen=True, slots=True)
class Made:
    """A picture, and how it came about."""

    picture: Shaped[np.ndarray, "h w *channels"]
    tiles: int
    approximate: bool
    """Whether the whole frame at once would look a little different."""


def make_bounded(
    development: Development,
    numbers: Shaped[np.ndarray, "h w"],
    memory: float,
    *,
    watch: Callable[[str, int], Callable[[int], None]],
) -> Made:
    """Demosaic a frame within a memory, whole if it fits, else in tiles.

    In tiles the picture is the whole frame's, to rounding, if the module sees a bounded distance: PyNET-QxQ and all
    baselines. Instance norm is first given the whole frame's statistics, which takes a pass over the frame for each
    norm behind another. PyNET is not exact in tiles, as its up-sampling depends on the frame's size: its tiles overlap,
    share pooled statistics, and the result says that it is approximate.

    Args:
        development: What is done to each part.
        numbers: The frame's, beginning with the phase of the development's array.
        memory: GiB for everything but the frame and the picture.
        watch: Called with a title and a number of pixels before each pass over the frame; what it returns is told how
            many pixels more are done.

    Raises:
        DataError: The frame is smaller than a tile of the array, or the memory is too small for any tile.
    """
    # channels last: in any other layout, convolutions on the CPU first copy what they are given
    module = copy.deepcopy(development.module).to(memory_format=torch.channels_last)
    development, cfa = replace(development, module=module), development.levels.cfa
    multiple = _multiple(module)
    size = {"period": cfa.period, "multiple": multiple, "least": LEAST}
    bytes_each = bytes_per_pixel(module, cfa)
    most = int((memory * 2**30 - FIXED) / bytes_each)
    whole = divide(*numbers.shape, **size, reach=0, most=2**62)
    if next(iter(whole)).pixels <= most:
        return Made(make(development, numbers, whole, advance=watch("demosaicing", whole.work)), 1, approximate=False)
    exact = getattr(module, "exact_in_tiles", True)
    norms = normalised(module)
    still = folded(module, {name: _neutral(part) for name, part in norms.items()}) if norms else module
    seen = reach(still, cfa) if exact else OVERLAP
    exact = exact and seen is not None
    size["reach"] = OVERLAP if seen is None else seen
    side = smallest_side(**size)
    if side**2 > most:
        needed = (side**2 * bytes_each + FIXED) / 2**30
        raise DataError(f"{memory:g} GiB are too few: the smallest tile, {side}x{side} pixels, takes {needed:.2f} GiB")
    grid = divide(*numbers.shape, **size, most=most)
    if norms:
        measured = _measured(development, numbers, grid, exact=exact, watch=watch)
        development = replace(development, module=folded(module, measured))
    picture = make(development, numbers, grid, advance=watch("demosaicing", grid.work))
    return Made(picture, len(grid), approximate=not exact)


def bytes_per_pixel(module: nn.Module, cfa: CFA) -> float:
    """About what a process needs for each pixel that the module makes at once."""
    unit = math.lcm(cfa.period, MULTIPLE)
    side = -(-TRIED // unit) * unit
    try:
        return SCRATCH * peak_bytes(module, side, side) / side**2
    except (NotImplementedError, RuntimeError, TypeError):  # it does more than torch does, with numpy for example
        return UNKNOWN


def _multiple(module: nn.Module) -> int:
    return MULTIPLE if not getattr(module, "exact_in_tiles", True) else 1


def _neutral(part: Convolution) -> tuple[Tensor, Tensor]:
    channels = part.conv2d.out_channels
    return torch.zeros(channels), torch.ones(channels)


def _measured(
    development: Development,
    numbers: np.ndarray,
    grid: Grid,
    *,
    exact: bool,
    watch: Callable[[str, int], Callable[[int], None]],
) -> dict[str, tuple[Tensor, Tensor]]:
    module = development.module
    if not exact:
        tiles = list(grid)[:: max(1, math.ceil(len(grid) / SAMPLES))]
        return sample_statistics(module, (development.packed(grid.cut(numbers, tile)) for tile in tiles))

    def tiles_of_a_pass() -> Iterator[tuple[Tensor, Window]]:
        advance = watch("measuring its instance norms", grid.work)
        for tile in grid:
            yield development.packed(grid.cut(numbers, tile)), _window(tile)
            advance(tile.pixels)

    return frame_statistics(module, tiles_of_a_pass)


def _window(tile: Tile) -> Window:
    """What is kept of a tile, in packed planes."""
    rows, columns = (slice(span.kept.start // 2, span.kept.stop // 2) for span in (tile.rows, tile.columns))
    return rows, columns
