"""Demosaicing through a Bayer mosaic, as in phones, whose pipelines know no other array."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.raw.methods.baselines import bayer_method
from zoo.raw.methods.steered import SteeredKernelRegression
from zoo.raw.sensor.cfa import CFA


class Remosaic(nn.Module):
    """An estimate of the mosaic that a Bayer sensor would have seen, demosaicked by a Bayer method.

    At pixels where both arrays sense the same colour the sensed value is kept; the others come from another method. The
    Bayer array has the phase of the array.

    Args:
        cfa: The colour filter array, or its name.
        first: The other method, a module from packed mosaics to pictures; None takes steered kernel regression.
        bayer: The Bayer method: `menon` or `malvar`.

    Raises:
        ShapeError: The array's tile is not two by two blocks with green on a diagonal.
        RecipeError: There is no such Bayer method.
        DataError: The library of Menon's method is not installed.
    """

    def __init__(self, cfa: CFA | str = "qxq", *, first: nn.Module | None = None, bayer: str = "menon") -> None:
        super().__init__()
        self.cfa = CFA.of(cfa)
        self.block = self.cfa.block
        self.bayer_cfa = CFA.named("bayer", self.cfa.phase or "")
        self.first = SteeredKernelRegression(self.cfa) if first is None else first
        self.demosaic = bayer_method(bayer, self.bayer_cfa)

    def remosaic(self, packed: Float[Tensor, "n 4 h2 w2"]) -> Float[Tensor, "n 1 h w"]:
        """Return the Bayer mosaic, not packed."""
        mosaic = self.cfa.unpack(packed)
        masks = self.cfa.separate(torch.ones_like(mosaic))
        same = self.bayer_cfa.mosaic(masks) > 0
        return torch.where(same, mosaic, self.bayer_cfa.mosaic(self.first(packed)))

    def forward(self, packed: Float[Tensor, "n 4 h2 w2"]) -> Float[Tensor, "n 3 h w"]:
        """Demosaic packed mosaics, on the mosaic's scale and without clipping."""
        return self.demosaic(self.bayer_cfa.pack(self.remosaic(packed)))

    def extra_repr(self) -> str:
        """Return the array."""
        return str(self.cfa)
