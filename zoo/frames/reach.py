"""The reach of a demosaicing module: the surroundings that a tile needs to come out as in the whole frame.

It counts more than `compresskit.profiling.footprint`: finite values that differ after NaN have seen the tile, too. NaN
changes the decisions of Menon's method up to a tile of the array farther away than other values do.
"""

import math

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from compresskit.nested import device_of
from zoo.raw.sensor.cfa import CFA

MULTIPLE = 32
"""Sides of the pictures that modules are tried on are multiples of this many pixels; PyNET's five scales need it."""


CHANGES = 3
"""Number of other values that the changed tile takes, besides NaN."""


FARTHEST = 1024
"""A module that sees farther than this many pixels is taken to see the whole frame."""


@torch.no_grad()
def reach(module: nn.Module, cfa: CFA, *, farthest: int = FARTHEST) -> int | None:
    """Return the distance past a tile of the array at which a change of that tile still shows in the picture.

    One tile in the middle of a noise mosaic becomes NaN, and every pixel of the picture that becomes NaN has seen it.
    Unlike a change of values, NaN is not lost by rounding or by a weight of zero. Comparisons do lose it, so every
    pixel that differs has seen the tile too, and the tile also takes other values.

    Args:
        module: A module from packed mosaics (n, 4, h/2, w/2) to pictures (n, 3, h, w), in eval mode.
        cfa: The array of its mosaics.
        farthest: Distance in pixels at which the search stops.

    Returns:
        Pixels, rounded up to the array's period; None for a module that sees farther than `farthest`, such as one that
        normalises over the frame.
    """
    unit = math.lcm(cfa.period, MULTIPLE)
    reaches = [_reach_along(module, cfa, axis, unit, farthest) for axis in (2, 3)]
    if any(pixels is None for pixels in reaches):
        return None
    return -(-max(pixels for pixels in reaches if pixels is not None) // cfa.period) * cfa.period


def _reach_along(module: nn.Module, cfa: CFA, axis: int, unit: int, farthest: int) -> int | None:
    length = 4 * unit
    while True:
        start = length // 2 // cfa.period * cfa.period
        shape = [1, 1, 2 * unit, 2 * unit]
        shape[axis] = length
        affected = _affected(module, cfa, shape, axis, start).nonzero().flatten()
        first, last = (int(affected[0]), int(affected[-1])) if len(affected) else (start, start)
        if first > 0 and last < length - 1:
            return max(0, start - first, last - (start + cfa.period - 1))
        if length > 2 * farthest:
            return None
        length *= 2


def _affected(module: nn.Module, cfa: CFA, shape: list[int], axis: int, start: int) -> Bool[Tensor, " length"]:
    """Return which rows, or columns, of the picture change with the tile that begins at `start`."""
    generator = torch.Generator().manual_seed(0)
    mosaic = torch.rand(shape, generator=generator)
    device = device_of(module)
    picture = module(cfa.to_input(mosaic).to(device))
    tile = mosaic.narrow(axis, start, cfa.period)
    affected = torch.zeros_like(picture, dtype=torch.bool)
    for values in (torch.nan, *(torch.rand(tile.shape, generator=generator) for _ in range(CHANGES))):
        tile.copy_(torch.as_tensor(values))
        affected |= module(cfa.to_input(mosaic).to(device)) != picture  # NaN differs from everything
    return affected.any(dim=1).any(dim=4 - axis).flatten().cpu()
