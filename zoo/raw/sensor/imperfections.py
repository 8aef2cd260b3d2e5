"""Differences between a real sensor's pixels: crosstalk, unequal greens, uneven gains and defects.

Each is a function of a mosaic (…, height, width) of whole tiles and of its parameters; nothing here is random.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from compresskit.errors import ShapeError
from zoo.raw.sensor.cfa import CFA


def crosstalk(mosaic: Float[Tensor, "n 1 h w"], cfa: CFA, share: float) -> Float[Tensor, "n 1 h w"]:
    """Give a share of each pixel's light to its four direct neighbours, a quarter to each.

    At the edge of a block they see another colour, so a block's outer pixels are tinted and its inner ones are not.
    Past the border the mosaic continues with copies of its outermost tiles.
    """
    wide = cfa.extend(mosaic, (1, 1, 1, 1))
    around = wide[..., 1:-1, :-2] + wide[..., 1:-1, 2:] + wide[..., :-2, 1:-1] + wide[..., 2:, 1:-1]
    return (1 - share) * mosaic + share / 4 * around


def unequal_greens(mosaic: Float[Tensor, "n 1 h w"], cfa: CFA, difference: float) -> Float[Tensor, "n 1 h w"]:
    """Make the greens of red's rows brighter than those of blue's rows, by a share of their mean."""
    gains = torch.tensor([1.0, 1 + difference / 2, 1.0, 1 - difference / 2]).to(mosaic)
    return cfa.unpack(cfa.pack(mosaic) * gains[:, None, None])


def apply_gains(mosaic: Float[Tensor, "n 1 h w"], gains: Float[Tensor, "p p2"], cfa: CFA) -> Float[Tensor, "n 1 h w"]:
    """Multiply each pixel by the gain of its place in the tile.

    Raises:
        ShapeError: The gains are not one for each place.
    """
    if tuple(gains.shape) != (cfa.period, cfa.period):
        size = "x".join(map(str, gains.shape))
        raise ShapeError(
            f"gains of {cfa} must be {cfa.period}x{cfa.period}, one for each place in the tile, got {size}"
        )
    height, width = mosaic.shape[-2:]
    return mosaic * gains.to(mosaic).repeat(height // cfa.period, width // cfa.period)


def apply_defects(
    mosaic: Float[Tensor, "n 1 h w"], dead: Bool[Tensor, "n 1 h w"], hot: Bool[Tensor, "n 1 h w"]
) -> Float[Tensor, "n 1 h w"]:
    """Make dead pixels black and hot ones white, whatever the light."""
    return mosaic.masked_fill(dead, 0.0).masked_fill(hot, 1.0)
