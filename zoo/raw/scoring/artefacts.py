"""Artefacts of demosaicing that people see: the zipper effect at edges, and false colour.

Both metrics compare colours in CIELAB, where equal distances look about equally large, and 2.3 can just be noticed.
Like those of `zoo.raw.scoring.metrics` they return a figure for each picture and leave out `border` pixels on all
sides. Lower is better for both. Pictures are display-encoded, by the curve of sRGB.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from zoo.raw.scoring.metrics import inside_border
from zoo.raw.sensor.encoding import to_linear

NOTICEABLE = 2.3
"""Distance in CIELAB that can just be noticed."""


NEIGHBOURS = ((0, -1), (0, 1), (-1, 0), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1))
"""Steps (down, right) to the pixels around a pixel."""


XYZ_OF_RGB = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
"""Matrix from linear sRGB to XYZ. Source: IEC 61966-2-1:1999."""


def zipper(
    estimate: Float[Tensor, "n c h w"], truth: Float[Tensor, "n2 c2 h2 w2"], *, border: int = 0
) -> Float[Tensor, " n"]:
    """Return the percentage of pixels that stand out from a neighbour that they resemble in truth.

    In the truth, a pixel's most similar neighbour of eight is the one at the least distance in CIELAB; of equal ones it
    is the first in `NEIGHBOURS`. The pixel counts if the estimate's distance to the same neighbour is larger than the
    truth's by more than 2.3. The outermost pixels have no eight neighbours and do not count.

    Raises:
        ShapeError: The shapes differ, or the border leaves less than 3x3 pixels.

    Reference:
        Lu & Tan, *Color Filter Array Demosaicking: New Method and Performance Measures*, IEEE Transactions on Image
        Processing, 2003: the measure of the zipper effect.
    """
    estimate, truth = (lab(picture) for picture in inside_border(estimate, truth, border, least=3))
    least = torch.full_like(_to_neighbour(truth, *NEIGHBOURS[0]), torch.inf)
    change = torch.zeros_like(least)
    for step in NEIGHBOURS:
        distance = _to_neighbour(truth, *step)
        closer = distance < least
        change = torch.where(closer, _to_neighbour(estimate, *step) - distance, change)
        least = torch.where(closer, distance, least)
    return 100 * (change > NOTICEABLE).double().mean(dim=(1, 2))


def false_colour(
    estimate: Float[Tensor, "n c h w"], truth: Float[Tensor, "n2 c2 h2 w2"], *, border: int = 0
) -> Float[Tensor, " n"]:
    """Return the mean distance of the colours whatever their lightness: sqrt((a - a')² + (b - b')²) in CIELAB.

    There is no agreed measure of false colour; this is the chroma part of the CIE 1976 colour difference.

    Raises:
        ShapeError: The shapes differ, or the border leaves nothing.

    Reference:
        CIE 15, *Colorimetry*: the colour space L*a*b*.
    """
    estimate, truth = (lab(picture) for picture in inside_border(estimate, truth, border))
    return (estimate - truth)[:, 1:].square().sum(dim=1).sqrt().mean(dim=(1, 2))


def lab(rgb: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Convert display-encoded sRGB from 0 to 1 to L*, a* and b*, in float64, with white as the reference.

    Source: CIE 15; IEC 61966-2-1:1999.
    """
    matrix = torch.tensor(XYZ_OF_RGB, dtype=torch.float64, device=rgb.device)
    relative = torch.einsum("xc,nchw->nxhw", matrix / matrix.sum(dim=1, keepdim=True), to_linear(rgb.double()))
    low, edge = 24389 / 27, 216 / 24389
    x, y, z = torch.where(relative > edge, relative.clamp(min=edge) ** (1 / 3), (low * relative + 16) / 116).unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def _to_neighbour(colours: Float[Tensor, "n 3 h w"], down: int, right: int) -> Float[Tensor, "n h2 w2"]:
    """Return the distance of each pixel that has eight neighbours to one of them."""
    height, width = colours.shape[2:]
    other = colours[:, :, 1 + down : height - 1 + down, 1 + right : width - 1 + right]
    return (colours[:, :, 1:-1, 1:-1] - other).square().sum(dim=1).sqrt()
