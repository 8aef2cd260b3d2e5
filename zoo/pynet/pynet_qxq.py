"""PyNET-QxQ: levels 1 and 0 of PyNET at half its width, for a mosaic of four by four blocks."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.pynet.blocks import Head, MultiBlock, ShuffleUp, check_packed, has_instance_norm, to_layout
from zoo.pynet.skip import CHANNELS, CHANNELS_WITH_SKIP, SkipFeatures, start_with_unit_variance
from zoo.raw.sensor.cfa import CFA

SMALLEST = 5
"""Least side of the packed planes: the 9x9 kernels reflect four pixels past each border."""


class PyNETQxQ(nn.Module):
    """A student for PyNET: at width 16, 1,074,126 parameters, 2.26 % of PyNET's at width 32.

    All but the last convolution runs at half the mosaic's height and width; that one sees the mosaic as well. Module
    names are those of the released checkpoints, and a block has the name of PyNET's block that it may learn from: at
    half the teacher's width it has half the output channels, so an adapter is one 1x1 convolution.

    Args:
        width: Channels of each branch of a multi-block.
        instance_norm_level_1: Normalise each channel over the picture in blocks d5 to d12. Each pixel then depends on
            all others, and a picture made tile by tile differs from one made whole.
        cfa: The colour filter array, or its name, by which packed planes become a mosaic.
        skip: A module from packed planes to a picture that the network corrects; see `zoo.pynet.skip`. None builds the
            network as it was released.
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
        self.conv_l1_d1 = MultiBlock(CHANNELS if skip is None else CHANNELS_WITH_SKIP, width, 3)
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
        """Map packed planes [B, Gr, R, Gb] in [0, 1] to a picture of twice the height and width.

        Raises:
            ShapeError: The planes' sides are no multiples of the CFA's block, or below 5.
        """
        check_packed(packed, network="PyNETQxQ", multiple=self.cfa.block, smallest=SMALLEST)
        skip = None if self.skip is None else SkipFeatures.of(self.skip, packed, self.cfa)
        # no name holds a tensor that the last layer, whose features are the largest, does not need
        features = self.conv_t0(self._level_1(self.conv_l1_d1(self._planes(packed, skip))))
        mosaic = self.cfa.unpack(packed) if skip is None else skip.relative_mosaic()
        features = torch.cat([features, mosaic.to(features.dtype)], dim=1)
        if skip is None:
            return self.conv_l0_d1(features)
        return skip.complete(self.conv_l0_d1(features, unit=skip.unit))

    def _planes(self, packed: Tensor, skip: SkipFeatures | None) -> Tensor:
        """Return the first block's input."""
        planes = packed if skip is None else skip.planes()
        return to_layout(planes, channels_last=not has_instance_norm(self.conv_l1_d5))

    def _level_1(self, d1: Tensor) -> Tensor:
        """Run blocks d3 to d14. Each map is freed once the next is made; together they would be most of the memory."""
        features = torch.cat([self.conv_l1_d3(d1), d1], dim=1)
        features = self.conv_l1_d5(features)
        features = self.conv_l1_d6(features)
        for block in (self.conv_l1_d7, self.conv_l1_d8, self.conv_l1_d9):
            features = block(features) + features
        features = torch.cat([self.conv_l1_d10(features), d1], dim=1)
        features = torch.cat([self.conv_l1_d12(features), d1], dim=1)
        return self.conv_l1_d14(features)
