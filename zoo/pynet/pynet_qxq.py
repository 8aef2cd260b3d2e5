"""PyNET-QxQ: levels 1 and 0 of PyNET at half its width, for a mosaic of four by four blocks."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.pynet.blocks import Head, MultiBlock, ShuffleUp, check_packed, laid_out, normalises
from zoo.pynet.skip import PACKED, SEEN, Start, start_with_unit_variance
from zoo.raw.sensor.cfa import CFA

SMALLEST = 5
"""Least side of the packed planes: the 9x9 kernels reflect four pixels past each border."""


class PyNETQxQ(nn.Module):
    """A student for PyNET: at width 16, 1,074,126 parameters, 2.26 % of PyNET's at width 32.

    All but the last convolution runs at half the mosaic's height and width; that one sees the mosaic as well. Module
    names are those of the released checkpoints, and a block has the name of PyNET's block that it may learn from: at
    half the teacher's width it puts out half the channels, so an adapter is one 1x1 convolution.

    Args:
        width: Channels of each branch of a multi-block.
        instance_norm_level_1: Whether blocks d5 to d12 normalise each channel over the picture. With it, what a pixel
            becomes depends on all others, and a picture made tile by tile differs from one made whole.
        cfa: The colour filter array, or its name: how packed planes make a mosaic.
        skip: A module from packed planes to a picture, for the network to correct; see `zoo.pynet.skip`. None
            makes the network as it was released.
    """

    def __init__(
        self,
        width: int = 16,
        *,
        instance_norm_level_1: bool = True,
        cfa: CFA | str = "qxq",
        skip: nn.Module | None = None,
    ) -> None:
        super().__init__()
        norm = instance_norm_level_1
        self.cfa = CFA.of(cfa)
        self.skip = skip
        self.conv_l1_d1 = MultiBlock(PACKED if skip is None else SEEN, width, 3)
        self.conv_l1_d3 = MultiBlock(width, width, 5)
        self.conv_l1_d5 = MultiBlock(3 * width, width, 7, instance_norm=norm)
        self.conv_l1_d6 = MultiBlock(3 * width, width, 9, instance_norm=norm)
        self.conv_l1_d7 = MultiBlock(4 * width, width, 9, instance_norm=norm)
        self.conv_l1_d8 = MultiBlock(4 * width, width, 9, instance_norm=norm)
        self.conv_l1_d9 = MultiBlock(4 * width, width, 9, instance_norm=norm)
        self.conv_l1_d10 = MultiBlock(4 * width, width, 7, instance_norm=norm)
        self.conv_l1_d12 = MultiBlock(4 * width, width, 5, instance_norm=norm)
        self.conv_l1_d14 = MultiBlock(3 * width, width, 3)
        self.conv_t0 = ShuffleUp(width)
        self.conv_l0_d1 = Head(width + 1, corrects=skip is not None)
        if skip is not None:
            start_with_unit_variance(self, residual=("conv_l1_d7", "conv_l1_d8", "conv_l1_d9"), last=0.4)

    def forward(self, packed: Float[Tensor, "n 4 h w"]) -> Float[Tensor, "n 3 h2 w2"]:
        """From packed planes [B, Gr, R, Gb] in [0, 1] to a picture of twice the height and width.

        Raises:
            ShapeError: The planes' sides are no multiples of the CFA's block, or below 5.
        """
        check_packed(packed, network="PyNETQxQ", multiple=self.cfa.block, smallest=SMALLEST)
        start = None if self.skip is None else Start.of(self.skip, packed, self.cfa)
        # nothing is kept in a name that the last layer, whose features are the largest, does not need
        features = self.conv_t0(self._level_1(self.conv_l1_d1(self._planes(packed, start))))
        mosaic = self.cfa.unpack(packed) if start is None else start.relative_mosaic()
        features = torch.cat([features, mosaic], dim=1)
        if start is None:
            return self.conv_l0_d1(features)
        return start.complete(self.conv_l0_d1(features, unit=start.unit))

    def _planes(self, packed: Tensor, start: Start | None) -> Tensor:
        """What the first block sees."""
        planes = packed if start is None else start.planes()
        return laid_out(planes, channels_last=not normalises(self.conv_l1_d5))

    def _level_1(self, d1: Tensor) -> Tensor:
        """Blocks d3 to d14. A map is let go once the next is made; kept, they would be most of the memory."""
        features = torch.cat([self.conv_l1_d3(d1), d1], dim=1)
        features = self.conv_l1_d5(features)
        features = self.conv_l1_d6(features)
        for block in (self.conv_l1_d7, self.conv_l1_d8, self.conv_l1_d9):
            features = block(features) + features
        features = torch.cat([self.conv_l1_d10(features), d1], dim=1)
        features = torch.cat([self.conv_l1_d12(features), d1], dim=1)
        return self.conv_l1_d14(features)
