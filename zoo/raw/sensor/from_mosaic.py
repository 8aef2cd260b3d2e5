"""Packing as a part of a network, for runtimes whose input is the sensor's mosaic as it is."""

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
