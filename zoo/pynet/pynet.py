"""PyNET: a demosaicing network over five scales."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from zoo.pynet.blocks import Head, MultiBlock, UpLayer, check_packed, has_instance_norm, to_layout
from zoo.pynet.skip import CHANNELS, CHANNELS_WITH_SKIP, SkipFeatures, start_with_unit_variance
from zoo.raw.sensor.cfa import CFA

RESIDUAL = (
    *("conv_l4_d4", "conv_l4_d5"),
    *("conv_l3_d3", "conv_l3_d4", "conv_l3_d5"),
    *("conv_l2_d5", "conv_l2_d6", "conv_l2_d7"),
    *("conv_l1_d7", "conv_l1_d8", "conv_l1_d9"),
)
"""Blocks that add their input to their output."""


SCALE = 16
"""Factor by which level 5 is smaller than the packed planes."""


SMALLEST = 2 * SCALE
"""Least side of the packed planes: level 5 reflects and normalises, for which one pixel is too few."""


class PyNET(nn.Module):
    """A demosaicing network over five scales: 47,554,738 parameters at width 32.

    Level 1 works at the packed planes' resolution and level 5 at a sixteenth of it; each level passes its features to
    the one above. `forward` returns level 0, the whole picture, and runs the side heads as well, so that they can be
    tapped: `conv_l5_out` to `conv_l1_out`, where `conv_l{k}_out` gives the picture reduced by 2 ** k. Module names are
    those of the released checkpoints.

    Args:
        width: Channels of each branch of a multi-block in level 1; each deeper level has twice as many.
        instance_norm: Normalise each channel over the picture in levels 2 to 5.
        instance_norm_level_1: Normalise each channel over the picture in blocks d5 to d12 of level 1.
        cfa: The colour filter array, or its name. It only matters with a `skip`.
        skip: A module from packed planes to a picture that the network corrects; see `zoo.pynet.skip`. None builds the
            network as it was released.
    """

    exact_in_tiles = False
    """False: up-sampling aligns the corners of whole maps, so its sampling points depend on the frame's size."""

    def __init__(
        self,
        width: int = 32,
        *,
        instance_norm: bool = True,
        instance_norm_level_1: bool = True,
        cfa: CFA | str = "qxq",
        skip: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.cfa = CFA.of(cfa)
        self.skip = skip
        corrects = skip is not None
        self._build_encoder(width, CHANNELS if skip is None else CHANNELS_WITH_SKIP, norm=instance_norm)
        self._build_level_5(16 * width, norm=instance_norm, corrects=corrects)
        self._build_level_4(8 * width, norm=instance_norm, corrects=corrects)
        self._build_level_3(4 * width, norm=instance_norm, corrects=corrects)
        self._build_level_2(2 * width, norm=instance_norm, corrects=corrects)
        self._build_level_1(width, norm=instance_norm_level_1, corrects=corrects)
        self.conv_t0 = UpLayer(width, width // 2)
        self.conv_l0_d1 = Head(width // 2, corrects=corrects)
        if corrects:
            start_with_unit_variance(self, residual=RESIDUAL, last=3.0)

    def _build_encoder(self, width: int, inputs: int, *, norm: bool) -> None:
        self.conv_l1_d1 = MultiBlock(inputs, width, 3)
        self.conv_l2_d1 = MultiBlock(width, 2 * width, 3, instance_norm=norm)
        self.conv_l3_d1 = MultiBlock(2 * width, 4 * width, 3, instance_norm=norm)
        self.conv_l4_d1 = MultiBlock(4 * width, 8 * width, 3, instance_norm=norm)

    def _build_level_5(self, width: int, *, norm: bool, corrects: bool) -> None:
        self.conv_l5_d1 = MultiBlock(width // 2, width, 3, instance_norm=norm)
        self.conv_l5_d2 = MultiBlock(width, width, 3, instance_norm=norm)
        self.conv_l5_d3 = MultiBlock(width, width, 3, instance_norm=norm)
        self.conv_l5_d4 = MultiBlock(width, width, 3, instance_norm=norm)
        self.conv_t4a = UpLayer(width, width // 2)
        self.conv_t4b = UpLayer(width, width // 2)
        self.conv_l5_out = Head(width, corrects=corrects)

    def _build_level_4(self, width: int, *, norm: bool, corrects: bool) -> None:
        self.conv_l4_d3 = MultiBlock(2 * width, width, 3, instance_norm=norm)
        self.conv_l4_d4 = MultiBlock(width, width, 3, instance_norm=norm)
        self.conv_l4_d5 = MultiBlock(width, width, 3, instance_norm=norm)
        self.conv_l4_d6 = MultiBlock(width, width, 3, instance_norm=norm)
        self.conv_l4_d8 = MultiBlock(2 * width, width, 3, instance_norm=norm)
        self.conv_t3a = UpLayer(width, width // 2)
        self.conv_t3b = UpLayer(width, width // 2)
        self.conv_l4_out = Head(width, corrects=corrects)

    def _build_level_3(self, width: int, *, norm: bool, corrects: bool) -> None:
        self.conv_l3_d3 = MultiBlock(2 * width, width, 5, instance_norm=norm)
        self.conv_l3_d4 = MultiBlock(2 * width, width, 5, instance_norm=norm)
        self.conv_l3_d5 = MultiBlock(2 * width, width, 5, instance_norm=norm)
        self.conv_l3_d6 = MultiBlock(2 * width, width, 5, instance_norm=norm)
        self.conv_l3_d8 = MultiBlock(4 * width, width, 3, instance_norm=norm)
        self.conv_t2a = UpLayer(width, width // 2)
        self.conv_t2b = UpLayer(width, width // 2)
        self.conv_l3_out = Head(width, corrects=corrects)

    def _build_level_2(self, width: int, *, norm: bool, corrects: bool) -> None:
        self.conv_l2_d3 = MultiBlock(2 * width, width, 5, instance_norm=norm)
        self.conv_l2_d5 = MultiBlock(3 * width, width, 7, instance_norm=norm)
        self.conv_l2_d6 = MultiBlock(3 * width, width, 7, instance_norm=norm)
        self.conv_l2_d7 = MultiBlock(3 * width, width, 7, instance_norm=norm)
        self.conv_l2_d8 = MultiBlock(3 * width, width, 7, instance_norm=norm)
        self.conv_l2_d10 = MultiBlock(4 * width, width, 5, instance_norm=norm)
        self.conv_l2_d12 = MultiBlock(3 * width, width, 3, instance_norm=norm)
        self.conv_t1a = UpLayer(width, width // 2)
        self.conv_t1b = UpLayer(width, width // 2)
        self.conv_l2_out = Head(width, corrects=corrects)

    def _build_level_1(self, width: int, *, norm: bool, corrects: bool) -> None:
        self.conv_l1_d3 = MultiBlock(2 * width, width, 5)
        self.conv_l1_d5 = MultiBlock(3 * width, width, 7, instance_norm=norm)
        self.conv_l1_d6 = MultiBlock(3 * width, width, 9, instance_norm=norm)
        self.conv_l1_d7 = MultiBlock(4 * width, width, 9, instance_norm=norm)
        self.conv_l1_d8 = MultiBlock(4 * width, width, 9, instance_norm=norm)
        self.conv_l1_d9 = MultiBlock(4 * width, width, 9, instance_norm=norm)
        self.conv_l1_d10 = MultiBlock(4 * width, width, 7, instance_norm=norm)
        self.conv_l1_d12 = MultiBlock(4 * width, width, 5, instance_norm=norm)
        self.conv_l1_d14 = MultiBlock(4 * width, width, 3)
        self.conv_l1_out = Head(width, corrects=corrects)

    def forward(self, packed: Float[Tensor, "n 4 h w"]) -> Float[Tensor, "n 3 h2 w2"]:
        """Map packed planes [B, Gr, R, Gb] in [0, 1] to a picture of twice the height and width.

        Raises:
            ShapeError: The planes' sides are no multiples of 16 (with a skip, of the CFA's block too), or below 32.
        """
        multiple = SCALE if self.skip is None else math.lcm(SCALE, self.cfa.block)
        check_packed(packed, network="PyNET", multiple=multiple, smallest=SMALLEST)
        skip = None if self.skip is None else SkipFeatures.of(self.skip, packed, self.cfa)

        def reduced(factor: int) -> tuple[Tensor, Tensor] | tuple[()]:
            return () if skip is None else skip.reduced(factor)

        # the layout of level 1, and of levels 2 and 3; further down there are many weights and few pixels
        fine, coarse = not has_instance_norm(self.conv_l1_d5), not has_instance_norm(self.conv_l2_d1)
        l1 = self.conv_l1_d1(to_layout(packed if skip is None else skip.planes(), channels_last=fine))
        l2 = self.conv_l2_d1(to_layout(F.max_pool2d(l1, 2), channels_last=coarse))
        l3 = self.conv_l3_d1(F.max_pool2d(l2, 2))
        l4 = self.conv_l4_d1(to_layout(F.max_pool2d(l3, 2), channels_last=False))
        d5 = self._level_5(l4)
        self.conv_l5_out(d5, *reduced(32))
        d4 = self._level_4(l4, d5)
        self.conv_l4_out(d4, *reduced(16))
        d3 = self._level_3(l3, to_layout(d4, channels_last=coarse))
        self.conv_l3_out(d3, *reduced(8))
        d2 = self._level_2(l2, d3)
        self.conv_l2_out(d2, *reduced(4))
        d1 = self._level_1(l1, to_layout(d2, channels_last=fine))
        self.conv_l1_out(d1, *reduced(2))
        t0 = self.conv_t0(d1)
        if skip is None:
            return self.conv_l0_d1(t0)
        return skip.complete(self.conv_l0_d1(t0, unit=skip.unit))

    def _level_5(self, l4: Tensor) -> Tensor:
        d1 = self.conv_l5_d1(F.max_pool2d(l4, 2))
        return self.conv_l5_d4(self.conv_l5_d3(self.conv_l5_d2(d1)))

    def _level_4(self, l4: Tensor, below: Tensor) -> Tensor:
        d3 = self.conv_l4_d3(torch.cat([l4, self.conv_t4a(below)], dim=1))
        d4 = self.conv_l4_d4(d3) + d3
        d5 = self.conv_l4_d5(d4) + d4
        d6 = self.conv_l4_d6(d5)
        return self.conv_l4_d8(torch.cat([d6, self.conv_t4b(below)], dim=1))

    def _level_3(self, l3: Tensor, below: Tensor) -> Tensor:
        d2 = torch.cat([l3, self.conv_t3a(below)], dim=1)
        d3 = self.conv_l3_d3(d2) + d2
        d4 = self.conv_l3_d4(d3) + d3
        d5 = self.conv_l3_d5(d4) + d4
        d6 = self.conv_l3_d6(d5)
        return self.conv_l3_d8(torch.cat([d6, l3, self.conv_t3b(below)], dim=1))

    def _level_2(self, l2: Tensor, below: Tensor) -> Tensor:
        d3 = self.conv_l2_d3(torch.cat([l2, self.conv_t2a(below)], dim=1))
        d5 = self.conv_l2_d5(torch.cat([d3, l2], dim=1))
        d5 = d5 + torch.cat([d3, l2], dim=1)
        d6 = self.conv_l2_d6(d5) + d5
        d7 = self.conv_l2_d7(d6) + d6
        d8 = self.conv_l2_d8(d7)
        d10 = self.conv_l2_d10(torch.cat([d8, l2], dim=1))
        return self.conv_l2_d12(torch.cat([d10, self.conv_t2b(below)], dim=1))

    def _level_1(self, l1: Tensor, below: Tensor) -> Tensor:
        d3 = self.conv_l1_d3(torch.cat([l1, self.conv_t1a(below)], dim=1))
        d5 = self.conv_l1_d5(torch.cat([d3, l1], dim=1))
        d6 = self.conv_l1_d6(d5)
        d7 = self.conv_l1_d7(d6) + d6
        d8 = self.conv_l1_d8(d7) + d7
        d9 = self.conv_l1_d9(d8) + d8
        d10 = self.conv_l1_d10(d9)
        d12 = self.conv_l1_d12(torch.cat([d10, l1], dim=1))
        return self.conv_l1_d14(torch.cat([d12, self.conv_t1b(below), l1], dim=1))
