"""Menon's demosaicing of Bayer arrays, by the library colour-demosaicing: the level of a good camera pipeline."""

import warnings

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from compresskit.errors import DataError, ShapeError
from zoo.raw.sensor.cfa import CFA


class Menon(nn.Module):
    """Demosaicing of a Bayer array along the direction, horizontal or vertical, in which colours vary less.

    It runs in NumPy on the CPU, without gradients.

    Args:
        cfa: A Bayer array, or its name: `bayer`, `bayer-rggb`.

    Raises:
        ShapeError: Blocks of the array are larger than a pixel.
        DataError: The library is not installed.

    Reference:
        Menon, Andriani & Calvagno, *Demosaicing With Directional Filtering and a posteriori Decision*, IEEE
        Transactions on Image Processing, 2007.
    """

    def __init__(self, cfa: CFA | str = "bayer") -> None:
        super().__init__()
        self.cfa = CFA.of(cfa)
        if self.cfa.block != 1:
            raise ShapeError(f"Menon's method is for a Bayer array, not for {self.cfa}; Remosaic makes one of it")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it warns of optional plotting libraries
                from colour_demosaicing import demosaicing_CFA_Bayer_Menon2007
        except ImportError:
            raise DataError(
                "Menon's method needs the library colour-demosaicing: pip install colour-demosaicing"
            ) from None
        self._demosaic = demosaicing_CFA_Bayer_Menon2007

    @torch.no_grad()
    def forward(self, packed: Float[Tensor, "n 4 h2 w2"]) -> Float[Tensor, "n 3 h w"]:
        """Demosaic packed mosaics, on the mosaic's scale and without clipping."""
        phase = (self.cfa.phase or "").upper()
        mosaics = self.cfa.unpack(packed).double().cpu().numpy()
        pictures = np.stack([self._demosaic(mosaic[0], phase) for mosaic in mosaics])
        return torch.from_numpy(pictures).movedim(-1, 1).to(packed)

    def extra_repr(self) -> str:
        """Return the array."""
        return str(self.cfa)
