"""How far a demosaicing module sees, and how much memory it takes: what tiles have to be planned by."""

import copy
import math
import weakref
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from compresskit.nested import device_of
from zoo.raw.sensor.cfa import CFA

MULTIPLE = 32
"""Sides of what the modules are tried on are multiples of this many pixels; PyNET's five scales need it."""


CHANGES = 3
"""How many other values a tile is given."""


FARTHEST = 1024
"""A module that sees farther than this many pixels is taken to see the whole frame."""


@torch.no_grad()
def reach(module: nn.Module, cfa: CFA, *, farthest: int = FARTHEST) -> int | None:
    """How many pixels past a tile of the array a change of it can be seen in the picture.

    One tile in the middle of a noise mosaic becomes NaN, and what is NaN in the picture has seen it. Unlike a change of
    its values, NaN is lost in no rounding and multiplied away by no weight of zero. Comparisons do lose it, so the tile
    is also given other values, and what differs has seen it too.

    Args:
        module: From packed mosaics (n, 4, h/2, w/2) to pictures (n, 3, h, w), in eval mode.
        cfa: The array whose mosaics it takes.
        farthest: Where to stop looking, in pixels.

    Returns:
        Pixels, rounded up to the array's period; None for a module that sees farther than `farthest`, such as one that
        normalises over the frame.
    """
    unit = math.lcm(cfa.period, MULTIPLE)
    found = [_reach_along(module, cfa, axis, unit, farthest) for axis in (2, 3)]
    if any(pixels is None for pixels in found):
        return None
    return -(-max(pixels for pixels in found if pixels is not None) // cfa.period) * cfa.period


def _reach_along(module: nn.Module, cfa: CFA, axis: int, unit: int, farthest: int) -> int | None:
    length = 4 * unit
    while True:
        start = length // 2 // cfa.period * cfa.period
        shape = [1, 1, 2 * unit, 2 * unit]
        shape[axis] = length
        touched = _touched(module, cfa, shape, axis, start).nonzero().flatten()
        first, last = (int(touched[0]), int(touched[-1])) if len(touched) else (start, start)
        if first > 0 and last < length - 1:
            return max(0, start - first, last - (start + cfa.period - 1))
        if length > 2 * farthest:
            return None
        length *= 2


def _touched(module: nn.Module, cfa: CFA, shape: list[int], axis: int, start: int) -> Bool[Tensor, " length"]:
    """Which rows, or columns, of the picture have seen the tile that begins at `start`."""
    generator = torch.Generator().manual_seed(0)
    mosaic = torch.rand(shape, generator=generator)
    place = device_of(module)
    picture = module(cfa.pack(mosaic).to(place))
    tile = mosaic.narrow(axis, start, cfa.period)
    touched = torch.zeros_like(picture, dtype=torch.bool)
    for other in (torch.nan, *(torch.rand(tile.shape, generator=generator) for _ in range(CHANGES))):
        tile.copy_(torch.as_tensor(other))
        found = module(cfa.pack(mosaic).to(place))
        touched |= found != picture  # NaN differs from everything
    return touched.any(dim=1).any(dim=4 - axis).flatten().cpu()


def peak_bytes(module: nn.Module, height: int, width: int) -> int:
    """The most memory that tensors take at once while the module makes a picture of this size, without making it.

    The module runs on the meta device, where tensors have shapes and no values. What libraries allocate inside an
    operation is not seen: convolutions on the CPU can double it.

    Args:
        module: From packed mosaics to pictures, with nothing in it but torch.
        height: Of the picture, in pixels.
        width: Of the picture, in pixels.
    """
    shapes = copy.deepcopy(module).to("meta")
    packed = torch.empty(1, 4, height // 2, width // 2, device="meta")
    with torch.no_grad(), _Live() as live:
        shapes(packed)
    return live.peak


class _Live(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive, by their storage."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._tensors: dict[int, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                self._add(tensor)
        return output

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata  # noqa: SLF001  (the storage's own address: two views of it are one)
        if key not in self._tensors:
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
        self._tensors[key] = self._tensors.get(key, 0) + 1
        weakref.finalize(tensor, self._drop, key, storage.nbytes())

    def _drop(self, key: int, size: int) -> None:
        self._tensors[key] -= 1
        if self._tensors[key] == 0:
            del self._tensors[key]
            self.now -= size
