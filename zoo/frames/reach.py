"""The reach of a demosaicing module: the surroundings that a tile needs to come out as in the whole frame."""

import math

import torch
from torch import nn

from compresskit.nested import device_of
from compresskit.profiling import footprint
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

    One tile in the middle of a noise mosaic becomes NaN and then takes other values, and every pixel of the picture
    that differs has seen it: see `compresskit.profiling.footprint`.

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
    length, device = 4 * unit, device_of(module)
    while True:
        start = length // 2 // cfa.period * cfa.period
        shape = [1, 1, 2 * unit, 2 * unit]
        shape[axis] = length
        mosaic = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        affected = footprint(
            lambda mosaic: module(cfa.pack(mosaic).to(device)), mosaic, axis, start, cfa.period, changes=CHANGES
        )
        seen = affected.nonzero().flatten().tolist() or [start]
        if seen[0] > 0 and seen[-1] < length - 1:
            return max(0, start - seen[0], seen[-1] - (start + cfa.period - 1))
        if length > 2 * farthest:
            return None
        length *= 2
