"""How far a demosaicing module sees, and how much memory it takes: what tiles have to be planned by."""

import copy
import math
import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zoo.raw.cfa import CFA

MULTIPLE = 32
"""Sides of what the modules are tried on are multiples of this many pixels; PyNET's five scales need it."""
FARTHEST = 1024
"""A module that sees farther than this many pixels is taken to see the whole frame."""


@torch.no_grad()
def reach(module: nn.Module, cfa: CFA, *, farthest: int = FARTHEST) -> int | None:
    """How many pixels past a tile of the array a change of it can be seen in the picture.

    One tile in the middle of a noise mosaic becomes NaN, and what is NaN in the picture has seen it. Unlike a small
    change, NaN is lost in no rounding and multiplied away by no weight of zero, so the answer holds for any values.

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
        mosaic = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        mosaic.narrow(axis, start, cfa.period).fill_(torch.nan)
        touched = module(cfa.pack(mosaic)).isnan().any(dim=1).any(dim=4 - axis).flatten().nonzero().flatten()
        first, last = (int(touched[0]), int(touched[-1])) if len(touched) else (start, start)
        if first > 0 and last < length - 1:
            return max(0, start - first, last - (start + cfa.period - 1))
        if length > 2 * farthest:
            return None
        length *= 2


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
