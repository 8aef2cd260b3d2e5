"""Packing as a part of a network, for runtimes whose input is the sensor's mosaic as it is."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from compresskit.errors import ShapeError
from zoo.raw.sensor.cfa import CFA


class FromMosaic(nn.Module):
    """A demosaicing network that takes mosaics (n, 1, h, w) instead of packed planes.

    Args:
        network: A module from packed planes of its array, `network.cfa`, to pictures.

    Raises:
        ShapeError: The network does not say for which array it is.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        cfa = getattr(network, "cfa", None)
        if not isinstance(cfa, CFA):
            raise ShapeError(
                f"FromMosaic takes networks that have their array as `cfa`; {type(network).__name__} has none"
            )
        self.network, self.cfa = network, cfa

    def forward(self, mosaic: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 3 h w"]:
        """Demosaic mosaics."""
        return self.network(self.cfa.pack(mosaic))

    def inputs_from(self, packed: Float[Tensor, "n 4 h2 w2"]) -> Float[Tensor, "n 1 h w"]:
        """Return the input of this module for which the network's input is `packed`."""
        return self.cfa.unpack(packed)


class FromAnyMosaic(FromMosaic):
    """A demosaicing network that takes mosaics of any size: it continues them, and cuts the picture back.

    At the right and at the bottom follow copies of the last tiles of the array, which keep the phase. PyNET-QxQ and
    PyNET take sides that are multiples of 32 pixels.

    Args:
        network: A module from packed planes of its array, `network.cfa`, to pictures.
        multiple: Number of pixels of which the network's sides are multiples; the array's period, too, divides them.

    Raises:
        ShapeError: The network does not say for which array it is.
    """

    def __init__(self, network: nn.Module, *, multiple: int = 32) -> None:
        super().__init__(network)
        self.multiple = math.lcm(multiple, self.cfa.period)

    def forward(self, mosaic: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 3 h w"]:
        """Demosaic mosaics of at least one tile of the array."""
        height, width = mosaic.shape[-2:]
        rows, columns = (self._positions(side, mosaic.device) for side in (height, width))
        continued = mosaic.index_select(-2, rows).index_select(-1, columns)
        return super().forward(continued)[..., :height, :width]

    def _positions(self, side: int, device: torch.device) -> Tensor:
        """Return the row, or column, that stands at each place of the continued mosaic."""
        whole = (side + self.multiple - 1) // self.multiple * self.multiple  # ONNX rounds negative quotients up
        places, period = torch.arange(whole, device=device), self.cfa.period
        return places - (places - side + period).clamp(min=0) // period * period
