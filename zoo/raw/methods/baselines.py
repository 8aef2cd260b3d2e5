"""Conventional demosaicing without learning: the floor that a network has to be far above.

All take a network's input, a packed mosaic (n, 4, h/2, w/2) in the layout of `CFA.pack`, and return a picture
(n, 3, h, w), red, green, blue, on the scale of the mosaic and not clipped. As modules they are compared, profiled and
exported in the same way as networks.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from compresskit.errors import RecipeError, ShapeError, close_names
from zoo.raw.methods.menon import Menon
from zoo.raw.sensor.cfa import CFA


class NormalisedConvolution(nn.Module):
    """Interpolation of each colour by a Gaussian: green first, then red and blue as differences to green.

    A missing value is the Gaussian-weighted mean of the values of that colour sensed near by: the smoothed samples over
    the smoothed mask. In photographs red and blue follow green, so they are interpolated as differences to the
    interpolated green, which vary less. Sensed values are kept.

    Args:
        cfa: The colour filter array, or its name.
        sigma: Standard deviation of the Gaussian in pixels. None chooses by the array's grain: about 0.8, 1.1, 1.4
            and 1.8 for blocks of 1, 2, 3 and 4 pixels.
        differences: Interpolate red and blue as differences to green; otherwise each colour by itself.

    Reference:
        Knutsson & Westin, *Normalized and Differential Convolution*, CVPR 1993.
    """

    gaussian: Tensor

    def __init__(self, cfa: CFA | str = "qxq", *, sigma: float | None = None, differences: bool = True) -> None:
        super().__init__()
        self.cfa = CFA.of(cfa)
        self.differences = differences
        self.sigma = 0.45 + 0.33 * self.cfa.grain if sigma is None else sigma
        reach = math.ceil(4 * self.sigma)
        gaussian = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / self.sigma) ** 2)
        self.register_buffer("gaussian", gaussian / gaussian.sum(), persistent=False)

    def forward(self, packed: Float[Tensor, "n planes h2 w2"]) -> Float[Tensor, "n 3 h w"]:
        """Demosaic packed mosaics, or the mosaics themselves where the array has no planes."""
        mosaic = self.cfa.from_input(packed)
        samples, masks = self.cfa.separate(mosaic), self.cfa.separate(torch.ones_like(mosaic))
        weights = self._smooth(masks)
        if not self.differences:
            return (self._smooth(samples) / weights).where(masks == 0, mosaic)
        green = torch.where(masks[:, 1:2] > 0, mosaic, self._smooth(samples)[:, 1:2] / weights[:, 1:2])
        colours = green + self._smooth(masks * (mosaic - green)) / weights
        return torch.cat([colours[:, :1], green, colours[:, 2:]], dim=1).where(masks == 0, mosaic)

    def _smooth(self, planes: Tensor) -> Tensor:
        kernel, reach = self.gaussian.to(planes).repeat(3, 1, 1, 1), len(self.gaussian) // 2
        rows = F.conv2d(planes, kernel, padding=(0, reach), groups=3)
        return F.conv2d(rows, kernel.transpose(2, 3), padding=(reach, 0), groups=3)

    def extra_repr(self) -> str:
        """Return the array and the Gaussian."""
        return f"{self.cfa}, sigma={self.sigma:.2f}"


class Malvar(nn.Module):
    """Demosaicing of a Bayer array by fixed 5x5 filters, one for each place and missing colour.

    A missing value is the mean of its neighbours of that colour, corrected by how much the sensed colour differs there
    from its own neighbours.

    Args:
        cfa: A Bayer array, or its name: `bayer`, `bayer-rggb`.

    Raises:
        ShapeError: Blocks of the array are larger than a pixel.

    Reference:
        Malvar, He & Cutler, *High-quality linear interpolation for demosaicing of Bayer-patterned color images*,
        ICASSP 2004.
    """

    filters: Tensor

    def __init__(self, cfa: CFA | str = "bayer") -> None:
        super().__init__()
        self.cfa = CFA.of(cfa)
        if self.cfa.block != 1:
            raise ShapeError(f"Malvar's filters are for a Bayer array, not for {self.cfa}; BinBicubic bins its blocks")
        filters = [
            F.pad(_malvar(self.cfa.tile, row, column, colour), (column, 1 - column, row, 1 - row))
            for colour in "RGB"
            for row in (0, 1)
            for column in (0, 1)
        ]
        self.register_buffer("filters", torch.stack(filters)[:, None], persistent=False)

    def forward(self, packed: Float[Tensor, "n 4 h2 w2"]) -> Float[Tensor, "n 3 h w"]:
        """Demosaic packed mosaics."""
        mosaic = F.pad(self.cfa.unpack(packed), (2, 2, 2, 2), mode="reflect")  # two pixels: the phase stays
        return F.pixel_shuffle(F.conv2d(mosaic, self.filters.to(mosaic), stride=2), 2)

    def extra_repr(self) -> str:
        """Return the array."""
        return str(self.cfa)


class BinBicubic(nn.Module):
    """Averages of blocks, demosaicked as a small Bayer mosaic and enlarged bicubically.

    This is such a sensor's picture in low light, enlarged to full size: all detail within a block is lost. For a Bayer
    array, whose blocks are single pixels, it is the Bayer method.

    Args:
        cfa: The colour filter array, or its name.
        bayer: The Bayer method: `malvar` or `menon`.

    Raises:
        RecipeError: There is no such Bayer method.
        DataError: The library of Menon's method is not installed.
    """

    def __init__(self, cfa: CFA | str = "qxq", *, bayer: str = "malvar") -> None:
        super().__init__()
        self.cfa = CFA.of(cfa)
        self.block = self.cfa.block
        self.demosaic = bayer_method(bayer, f"bayer-{self.cfa.phase}")

    def forward(self, packed: Float[Tensor, "n 4 h2 w2"]) -> Float[Tensor, "n 3 h w"]:
        """Demosaic packed mosaics."""
        small = self.demosaic(F.avg_pool2d(packed, self.block))  # planes hold whole blocks side by side
        if self.block == 1:
            return small
        return F.interpolate(small, scale_factor=self.block, mode="bicubic", align_corners=False)

    def extra_repr(self) -> str:
        """Return the array."""
        return str(self.cfa)


BAYER: dict[str, type[nn.Module]] = {"malvar": Malvar, "menon": Menon}
"""The methods for Bayer arrays, by name."""


def bayer_method(name: str, cfa: CFA | str) -> nn.Module:
    """Return the method for Bayer arrays of this name.

    Raises:
        RecipeError: There is none.
    """
    if name not in BAYER:
        raise RecipeError(f"there is no Bayer method {name!r}{close_names(name, BAYER)}")
    return BAYER[name](cfa)


SENSED = ((0, 0, 0, 0, 0), (0, 0, 0, 0, 0), (0, 0, 8, 0, 0), (0, 0, 0, 0, 0), (0, 0, 0, 0, 0))


GREEN = ((0, 0, -1, 0, 0), (0, 0, 2, 0, 0), (-1, 2, 4, 2, -1), (0, 0, 2, 0, 0), (0, 0, -1, 0, 0))


IN_ROW = ((0, 0, 0.5, 0, 0), (0, -1, 0, -1, 0), (-1, 4, 5, 4, -1), (0, -1, 0, -1, 0), (0, 0, 0.5, 0, 0))


DIAGONAL = ((0, 0, -1.5, 0, 0), (0, 2, 0, 2, 0), (-1.5, 0, 6, 0, -1.5), (0, 2, 0, 2, 0), (0, 0, -1.5, 0, 0))
"""Filters in eighths, by what they restore: the sensed colour; green at red or blue; at green, the colour of its row;
blue at red, and red at blue."""


def _malvar(tile: tuple[str, ...], row: int, column: int, colour: str) -> Float[Tensor, "5 5"]:
    if tile[row][column] == colour:
        eighths = SENSED
    elif colour == "G":
        eighths = GREEN
    elif tile[row][1 - column] == colour or tile[1 - row][column] == colour:
        eighths = IN_ROW
    else:
        eighths = DIAGONAL
    kernel = torch.tensor(eighths) / 8
    return kernel.T if eighths is IN_ROW and tile[1 - row][column] == colour else kernel
