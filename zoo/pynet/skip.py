"""The correction of a skip: a network's inputs and outputs when it improves another method's picture.

A skip is a module from packed planes to a picture: LMMSE-phase, say, the best linear answer. A linear optimum is a hard
start: its error has no linear trace left, lies in fine detail, and repeats with the tile of the colour filter array.
Four things make it learnable, and the same code serves teacher and student:

- **Steered.** No linear filter can follow edges. The network sees fine detail also multiplied by the cosine and the
  sine of twice the angle of the local edge: a filter on these turns with the edge.
- **Relative.** The network sees the skip's picture less its local mean, in units of local contrast, beside the masks of
  the colour filter array; its outputs are in units of local contrast too. The error of demosaicing scales with
  contrast, so the network has one task in light and shade, and needs no instance norm for it.
- **Consistent.** The proposal of the last layer is not the picture yet. The skip demosaics the part of the mosaic that
  the proposal does not explain, and that is added: `proposal + skip(packed - pack(mosaic(proposal)))`. So the network
  need not know at which place of the tile it is, and a proposal of zero is exactly the skip.
- **Zero at first.** Heads start at zero and all layers before them with unit variance, so an untrained network is the
  skip, and its features are of use from the first step.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from zoo.pynet.blocks import SLOPE, is_autocast, without_autocast
from zoo.raw.sensor.cfa import CFA

CHANNELS = 4
"""Input planes of a network without a skip: the packed mosaic."""


CHANNELS_WITH_SKIP = 48
"""Input planes with a skip: detail, detail steered twice, and masks, of three colours each, at four places."""


RADIUS = 4
"""Radius in pixels of the window whose mean, applied twice, is the local mean."""


FLOOR = 0.01
"""Contrast of a flat surface, on the scale of pictures in [0, 1]."""


HEAD_UNIT = 0.3
"""Share of the contrast that is a head's output of 1: about LMMSE-phase's error. With more, first steps overshoot."""


@dataclass(frozen=True, slots=True)
class SkipFeatures:
    """A skip's picture of a mosaic with its local mean and contrast: a network's inputs and output unit."""

    skip: nn.Module
    cfa: CFA
    packed: Float[Tensor, "n 4 h2 w2"]
    picture: Float[Tensor, "n 3 h w"]
    """The skip's picture."""
    mean: Float[Tensor, "n 3 h w"]
    """Mean of the picture around each pixel."""
    contrast: Float[Tensor, "n 1 h w"]
    """Root mean square of the picture's detail around each pixel."""

    @classmethod
    def of(cls, skip: nn.Module, packed: Float[Tensor, "n 4 h2 w2"], cfa: CFA) -> "SkipFeatures":
        """Demosaic the packed planes with the skip, and measure its picture."""
        with without_autocast(packed):  # half precision is too coarse for the picture to be corrected
            picture = skip(packed)
        mean = _smooth(picture)
        power = (picture - mean).square().mean(dim=1, keepdim=True)
        return cls(skip, cfa, packed, picture, mean, torch.sqrt(_smooth(power) + FLOOR**2))

    def planes(self) -> Float[Tensor, "n 48 h2 w2"]:
        """Return the network's input: relative detail, plain and steered, and masks, at the planes' resolution."""
        detail = (self.picture - self.mean) / self.contrast
        cosine, sine = _orientation(self.picture)
        masks = self.cfa.separate(self.cfa.unpack(torch.ones_like(self.packed)))
        return F.pixel_unshuffle(torch.cat([detail, detail * cosine, detail * sine, 2 * masks - 2 / 3], dim=1), 2)

    def relative_mosaic(self) -> Float[Tensor, "n 1 h w"]:
        """Return the mosaic less the local mean, in units of local contrast."""
        return (self.cfa.unpack(self.packed) - self.mean.mean(dim=1, keepdim=True)) / self.contrast

    @property
    def unit(self) -> Float[Tensor, "n 1 h w"]:
        """The size of a head's output of 1 at each pixel."""
        return HEAD_UNIT * self.contrast

    def reduced(self, factor: int) -> tuple[Tensor, Tensor]:
        """Return the picture and the unit for the head of a coarser level."""
        return F.avg_pool2d(self.picture, factor), F.avg_pool2d(self.unit, factor)

    def complete(self, proposal: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        """Return the proposal plus the skip's picture of the part of the mosaic that the proposal does not explain."""
        with without_autocast(proposal):
            explained = self.cfa.pack(self.cfa.mosaic(proposal))
            return proposal + self.skip(self.packed - explained)


@torch.no_grad()
def start_with_unit_variance(network: nn.Module, *, residual: tuple[str, ...], last: float) -> None:
    """Initialise a network that corrects a skip so that signals neither fade nor grow on their way through it.

    The weights are He's for leaky ReLU, and half of that in the `residual` blocks, which add their input. Those of the
    up-sampling before the last head are multiplied by `last`, measured to give that head inputs of about unit variance.

    Source: He et al., *Delving Deep into Rectifiers*, ICCV 2015, equation 15.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and not name.startswith("skip") and module.weight.any():  # heads stay at zero
            nn.init.kaiming_normal_(module.weight, a=SLOPE)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
            if any(name.startswith(f"{block}.") and name.endswith("b.conv2d") for block in residual):
                module.weight.mul_(0.5)
            if name.startswith("conv_t0."):
                module.weight.mul_(last)


def _orientation(picture: Float[Tensor, "n 3 h w"]) -> tuple[Float[Tensor, "n 1 h w"], Float[Tensor, "n 1 h w"]]:
    """Return cosine and sine of twice the gradient's angle, times its coherence: 0 without a direction, at most 1.

    Source: the structure tensor; Bigün & Granlund, *Optimal Orientation Detection of Linear Symmetry*, ICCV 1987.
    """
    grey = F.pad(picture.mean(dim=1, keepdim=True), (1, 1, 1, 1), mode="reflect")
    across = grey[:, :, 1:-1, 2:] - grey[:, :, 1:-1, :-2]
    down = grey[:, :, 2:, 1:-1] - grey[:, :, :-2, 1:-1]
    horizontal, vertical, both = (_smooth(product) for product in (across**2, down**2, across * down))
    strength = horizontal + vertical + FLOOR**2
    return (horizontal - vertical) / strength, 2 * both / strength


def _smooth(picture: Tensor) -> Tensor:
    """Take the mean over a window twice, which is nearly a Gaussian."""
    side = 2 * RADIUS + 1
    for _ in range(2):
        picture = F.pad(picture, (RADIUS,) * 4, mode="reflect")
        if is_autocast(picture):  # sums of rows and columns differ in the last digit, and take a twentieth of the time
            picture = _sum_of_nine(_sum_of_nine(picture, dim=2), dim=3) / side**2
        else:
            picture = F.avg_pool2d(picture, side, stride=1)
    return picture


def _sum_of_nine(values: Tensor, dim: int) -> Tensor:
    """Return the sums of nine neighbours along a dimension, which becomes shorter by eight."""
    size = values.shape[dim]
    two = values.narrow(dim, 0, size - 1) + values.narrow(dim, 1, size - 1)
    four = two.narrow(dim, 0, size - 3) + two.narrow(dim, 2, size - 3)
    eight = four.narrow(dim, 0, size - 7) + four.narrow(dim, 4, size - 7)
    return eight.narrow(dim, 0, size - 8) + values.narrow(dim, 8, size - 8)
