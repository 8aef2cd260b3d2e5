"""Mosaics, packing and their inverses as strided convolutions and pixel shuffles.

The views of `CFA` have six axes, and most runtimes of phones take four. Each function selects the same numbers by a
convolution whose kernels are zero but for a one, and so is exact for finite numbers. `CFA` calls them when a model is
exported; the kernels are made with NumPy, so that a graph holds them as constants.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32
from torch import Tensor

Positions = Sequence[tuple[int, int]]
"""Row and column, in two by two blocks, of each packed plane."""


def mosaic(rgb: Float[Tensor, "n 3 h w"], masks: Bool[np.ndarray, "3 period period"]) -> Float[Tensor, "n 1 h w"]:
    """Return the mosaic of a picture; see `CFA.mosaic`."""
    period = masks.shape[-1]
    return _select(rgb, _places(period)[:, None] * masks, period, period)


def separate(mosaic: Float[Tensor, "n 1 h w"], masks: Bool[np.ndarray, "3 period period"]) -> Float[Tensor, "n 3 h w"]:
    """Return a mosaic's values in the channel of their colour; see `CFA.separate`."""
    period = masks.shape[-1]
    kernels = _places(period) * masks[:, None]
    return _select(mosaic, kernels.reshape(-1, 1, period, period), period, period)


def pack(mosaic: Float[Tensor, "n 1 h w"], block: int, positions: Positions) -> Float[Tensor, "n 4 h2 w2"]:
    """Return packed planes; see `CFA.pack`."""
    side = 2 * block
    places = _places(side).reshape(2, block, 2, block, side, side)
    kernels = np.stack([places[row, :, column] for row, column in positions])
    return _select(mosaic, kernels.reshape(-1, 1, side, side), side, block)


def unpack(packed: Float[Tensor, "n 4 h2 w2"], block: int, positions: Positions) -> Float[Tensor, "n 1 h w"]:
    """Return the mosaic of packed planes; see `CFA.unpack`."""
    kernels = np.zeros((2, block, 2, block, 4, block, block), np.float32)
    for plane, (row, column) in enumerate(positions):
        kernels[row, :, column, :, plane] = _places(block).reshape(block, block, block, block)
    return _select(packed, kernels.reshape(-1, 4, block, block), block, 2 * block)


def _places(side: int) -> Float32[np.ndarray, "places side side"]:
    """Return kernels that each select one place of a square, in reading order."""
    return np.eye(side**2, dtype=np.float32).reshape(-1, side, side)


def _select(tensor: Tensor, kernels: Float32[np.ndarray, "o i k k"], stride: int, side: int) -> Tensor:
    """Return what the kernels select from each square of `stride` pixels, laid out as squares of `side`."""
    return F.pixel_shuffle(F.conv2d(tensor, torch.from_numpy(kernels).to(tensor), stride=stride), side)
