"""Demosaicing by kernels that follow the edges, without learning."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from zoo.raw.methods.baselines import NormalisedConvolution
from zoo.raw.sensor.cfa import CFA

FLOOR = 0.005
"""Gradient of a flat surface, on the scale of pictures in [0, 1]."""


POWER, MOST = 0.6, 8.0
"""Ratio of a kernel's squared axes: that of the structure tensor's eigenvalues to this power, and at most this."""


COLOUR_SPREAD = 1.5
"""Factor by which the kernels of the second step are wider: the colours that they average vary less."""


LEAST = 1e-8
"""Least weight of a kernel's farthest corner, so that some sample always counts."""


class SteeredKernelRegression(nn.Module):
    """Interpolation of each colour by Gaussians that are short across an edge and long along it.

    Normalised convolution gives a first picture, whose structure tensor shows at each pixel the direction of an edge.
    The first step interpolates green, and then the differences of red and blue to it, as normalised convolution does,
    but with kernels that follow the edges. The second step reverses the roles: it smooths the differences of all
    colours to the luma, and the rest of each sensed value is the new luma, which so has the detail of every pixel and
    not of the green ones alone. Sensed values are kept. The kernels' sizes grow with the side of a block.

    The shape of the kernels is that of the paper (order zero). The sizes and the two steps are our own, chosen on
    photographs of CID22 and with a look at Kodak's.

    Args:
        cfa: The colour filter array, or its name.

    Reference:
        Takeda, Farsiu & Milanfar, *Kernel Regression for Image Processing and Reconstruction*, IEEE Transactions on
        Image Processing, 2007, section III.
    """

    def __init__(self, cfa: CFA | str = "qxq") -> None:
        super().__init__()
        self.cfa = CFA.of(cfa)
        block = self.cfa.grain
        self.first = NormalisedConvolution(self.cfa)
        self.sigma = 0.36 + 0.26 * block
        self.reach = math.ceil(2.2 * block) + 1
        self.gradient_sigma, self.tensor_sigma = 0.3 + 0.2 * block, 0.6 + 0.6 * block

    def forward(self, packed: Float[Tensor, "n planes h2 w2"]) -> Float[Tensor, "n 3 h w"]:
        """Demosaic packed mosaics, on the mosaic's scale and without clipping."""
        mosaic = self.cfa.from_input(packed)
        masks = self.cfa.separate(torch.ones_like(mosaic))
        picture = self._from_green(mosaic, masks, self._kernels(self.first(packed), self.sigma))
        return self._from_luma(mosaic, masks, picture)

    def _kernels(self, picture: Tensor, sigma: float) -> "_Kernels":
        across, down = _gradient(_blur(_luma(picture), self.gradient_sigma))
        products = torch.cat([across**2, down**2, across * down], dim=1)
        return _Kernels.along(_blur(products, self.tensor_sigma), sigma, self.reach)

    def _from_green(self, mosaic: Tensor, masks: Tensor, kernels: "_Kernels") -> Tensor:
        sums = kernels.sums(torch.cat([masks[:, 1:2] * mosaic, masks], dim=1))
        weights = sums[:, 1:]
        green = torch.where(masks[:, 1:2] > 0, mosaic, sums[:, :1] / weights[:, 1:2])
        red_and_blue = green + kernels.sums((masks * (mosaic - green))[:, ::2]) / weights[:, ::2]
        return torch.cat([red_and_blue[:, :1], green, red_and_blue[:, 1:]], dim=1).where(masks == 0, mosaic)

    def _from_luma(self, mosaic: Tensor, masks: Tensor, picture: Tensor) -> Tensor:
        kernels = self._kernels(picture, COLOUR_SPREAD * self.sigma)
        sums, weights = kernels.sums(torch.cat([masks * (mosaic - _luma(picture)), masks], dim=1)).chunk(2, dim=1)
        differences = sums / weights
        luma = mosaic - (masks * differences).sum(dim=1, keepdim=True)
        return (luma + differences).where(masks == 0, mosaic)

    def extra_repr(self) -> str:
        """Return the array and the kernels."""
        return f"{self.cfa}, sigma={self.sigma:.2f}, reach={self.reach}"


@dataclass(frozen=True, slots=True)
class _Kernels:
    """A Gaussian exp(-(xx dx² + 2 xy dx dy + yy dy²) / 2) for each pixel, cut off `reach` pixels away."""

    xx: Float[Tensor, "n 1 h w"]
    yy: Float[Tensor, "n 1 h w"]
    xy: Float[Tensor, "n 1 h w"]
    reach: int

    @classmethod
    def along(cls, tensor: Float[Tensor, "n 3 h w"], sigma: float, reach: int) -> "_Kernels":
        """Return kernels along the edges of a structure tensor (xx, yy, xy), of the area of a round one of `sigma`."""
        horizontal, vertical, both = tensor.chunk(3, dim=1)
        half, cosine = (horizontal + vertical) / 2, (horizontal - vertical) / 2
        spread = torch.sqrt(cosine**2 + both**2)
        strong, weak = half + spread + FLOOR**2, (half - spread).clamp(min=0) + FLOOR**2
        stretch = ((strong / weak) ** POWER).clamp(max=MOST)
        mean, change = ((stretch + 1 / stretch) / 2, (stretch - 1 / stretch) / 2 / spread.clamp(min=1e-12))
        return cls(
            (mean + change * cosine) / sigma**2, (mean - change * cosine) / sigma**2, change * both / sigma**2, reach
        )

    def sums(self, planes: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Return the sum of each plane under the kernel of each pixel."""
        height, width = planes.shape[2:]
        padded, total = F.pad(planes, (self.reach,) * 4), torch.zeros_like(planes)
        for down in range(self.reach + 1):
            for across in range(-self.reach, self.reach + 1):
                if (down, across) < (0, 0):  # kernels are symmetric: the opposite place has the same weight
                    continue
                power = self.xx * across**2 + self.yy * down**2 + self.xy * (2 * across * down)
                both = {(down, across), (-down, -across)}
                shifted = [padded[..., self.reach + y :, self.reach + x :][..., :height, :width] for y, x in both]
                total += torch.exp(-0.5 * power).clamp(min=LEAST) * sum(shifted)
        return total


def _luma(picture: Tensor) -> Tensor:
    return (picture[:, :1] + 2 * picture[:, 1:2] + picture[:, 2:]) / 4


def _gradient(plane: Tensor) -> tuple[Tensor, Tensor]:
    """Return central differences from left to right and from top to bottom."""
    padded = F.pad(plane, (1, 1, 1, 1), mode="replicate")
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    return across, (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2


def _blur(planes: Tensor, sigma: float) -> Tensor:
    reach, count = math.ceil(3 * sigma), planes.shape[1]
    gaussian = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=planes.device) / sigma) ** 2).to(planes)
    kernel = (gaussian / gaussian.sum()).repeat(count, 1, 1, 1)
    rows = F.conv2d(F.pad(planes, (reach, reach, 0, 0), mode="replicate"), kernel, groups=count)
    return F.conv2d(F.pad(rows, (0, 0, reach, reach), mode="replicate"), kernel.transpose(2, 3), groups=count)
