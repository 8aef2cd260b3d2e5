"""A frame within a memory: whole if it fits, else divided so that the picture is still the whole frame's."""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from compresskit.errors import DataError
from zoo.frames.development import Development
from zoo.frames.fold_instance_norm import Window, fold, frame_statistics, instance_norms, sample_statistics
from zoo.frames.memory import bytes_per_pixel
from zoo.frames.progress import StartBar, no_bar
from zoo.frames.reach import MULTIPLE, reach
from zoo.frames.tiling import Tile, Tiling, divide, run_tiles, smallest_side
from zoo.pynet.blocks import Convolution

FIXED = 2**29
"""Bytes that Python and the libraries take, whatever the tile."""


OVERLAP = 256
"""Pixels around the tiles of a module that no surroundings make exact."""


LEAST = 64
"""Smallest side in pixels: PyNET's level 5 needs it."""


SAMPLES = 16
"""Tiles whose statistics are pooled for a module that no surroundings make exact."""


@dataclass(frozen=True, slots=True)
class DemosaicedFrame:
    """A picture, and the division of the frame that it was made in."""

    picture: Shaped[np.ndarray, "h w *channels"]
    tiles: int
    approximate: bool
    """True if the whole frame at once would look a little different."""


def demosaic_frame(
    development: Development, numbers: Shaped[np.ndarray, "h w"], memory: float, *, start_bar: StartBar = no_bar
) -> DemosaicedFrame:
    """Demosaic a frame within a memory, whole if it fits, else in tiles.

    In tiles the picture is the whole frame's, to rounding, if the module sees a bounded distance: PyNET-QxQ and all
    baselines do. An instance norm first takes the whole frame's statistics, which costs a pass over the frame for each
    norm that lies behind another. PyNET is not exact in tiles, as its up-sampling depends on the frame's size: its
    tiles overlap, share pooled statistics, and the result says that it is approximate.

    Args:
        development: The work on each part.
        numbers: The frame's numbers, beginning with the phase of the development's array.
        memory: GiB for everything but the frame and the picture.
        start_bar: Start of a progress bar, called before each pass over the frame.

    Raises:
        DataError: The frame is smaller than a tile of the array, or the memory is too small for any tile.
    """
    # channels last: in any other layout, convolutions on the CPU first copy their input
    module = copy.deepcopy(development.module).to(memory_format=torch.channels_last)
    development, cfa = replace(development, module=module), development.levels.cfa
    exact = getattr(module, "exact_in_tiles", True)
    size = {"period": cfa.period, "multiple": 1 if exact else MULTIPLE, "least": LEAST}
    pixel_bytes = bytes_per_pixel(module, cfa)
    most = int((memory * 2**30 - FIXED) / pixel_bytes)
    whole = divide(*numbers.shape, **size, reach=0, most=2**62)
    if next(iter(whole)).pixels <= most:
        picture = run_tiles(development, numbers, whole, advance=start_bar("demosaicing", whole.work))
        return DemosaicedFrame(picture, 1, approximate=False)
    norms = instance_norms(module)
    local = fold(module, {name: _neutral_statistics(part) for name, part in norms.items()}) if norms else module
    pixels_seen = reach(local, cfa) if exact else OVERLAP
    exact = exact and pixels_seen is not None
    size["reach"] = OVERLAP if pixels_seen is None else pixels_seen
    side = smallest_side(**size)
    if side**2 > most:
        needed = (side**2 * pixel_bytes + FIXED) / 2**30
        raise DataError(f"{memory:g} GiB are too few: the smallest tile, {side}x{side} pixels, takes {needed:.2f} GiB")
    tiling = divide(*numbers.shape, **size, most=most)
    if norms:
        statistics = _norm_statistics(development, numbers, tiling, exact=exact, start_bar=start_bar)
        development = replace(development, module=fold(module, statistics))
    picture = run_tiles(development, numbers, tiling, advance=start_bar("demosaicing", tiling.work))
    return DemosaicedFrame(picture, len(tiling), approximate=not exact)


def _neutral_statistics(part: Convolution) -> tuple[Tensor, Tensor]:
    channels = part.conv2d.out_channels
    return torch.zeros(channels), torch.ones(channels)


def _norm_statistics(
    development: Development, numbers: np.ndarray, tiling: Tiling, *, exact: bool, start_bar: StartBar
) -> dict[str, tuple[Tensor, Tensor]]:
    module = development.module
    if not exact:
        tiles = list(tiling)[:: max(1, math.ceil(len(tiling) / SAMPLES))]
        return sample_statistics(module, (development.pack(tiling.cut(numbers, tile)) for tile in tiles))

    def tiles_of_a_pass() -> Iterator[tuple[Tensor, Window]]:
        advance = start_bar("measuring its instance norms", tiling.work)
        for tile in tiling:
            yield development.pack(tiling.cut(numbers, tile)), _window(tile)
            advance(tile.pixels)

    return frame_statistics(module, tiles_of_a_pass)


def _window(tile: Tile) -> Window:
    """Return a tile without its surroundings, in packed planes."""
    rows, columns = (slice(span.inner.start // 2, span.inner.stop // 2) for span in (tile.rows, tile.columns))
    return rows, columns
