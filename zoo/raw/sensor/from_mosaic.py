"""Packing as a part of the network, for runtimes that are to be given a sensor's mosaic as it is."""

from jaxtyping import Float
from torch import Tensor, nn

from compresskit.errors import ShapeError
from zoo.raw.sensor.cfa import CFA


class FromMosaic(nn.Module):
    """A demosaicing network that takes mosaics (n, 1, h, w) instead of packed planes.

    Args:
        network: From packed planes of its array, `network.cfa`, to pictures.

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
        """The picture of a mosaic."""
        return self.network(self.cfa.pack(mosaic))

    def inputs_from(self, packed: Float[Tensor, "n 4 h2 w2"]) -> Float[Tensor, "n 1 h w"]:
        """What this takes where the network alone takes `packed`."""
        return self.cfa.unpack(packed)
