"""Distance of a picture to the truth: PSNR, SSIM and MS-SSIM.

Each takes an estimate and its truth (n, 3, h, w), the truth from 0 to 1, and returns a figure for each of the n
pictures. The estimate is clipped to that range, and `border` pixels are left out on all sides: there, methods differ by
their guess at the world outside. The figure of a set of pictures is the mean of theirs.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from compresskit.errors import ShapeError
from compresskit.losses import images

MS_SSIM_SIDE = 176
"""Least side in pixels that MS-SSIM can measure: an 11-pixel window at a sixteenth of the size."""


def psnr(
    estimate: Float[Tensor, "n c h w"], truth: Float[Tensor, "n2 c2 h2 w2"], *, border: int = 0
) -> Float[Tensor, " n"]:
    """Return the peak signal-to-noise ratio in dB, of the mean squared error over pixels and colours together (CPSNR).

    It is infinite if the two are equal.

    Raises:
        ShapeError: The shapes differ, or the border leaves nothing.
    """
    estimate, truth = inside_border(estimate, truth, border)
    return -10 * torch.log10(((estimate.double() - truth.double()) ** 2).mean(dim=(1, 2, 3)))


def ssim(
    estimate: Float[Tensor, "n c h w"], truth: Float[Tensor, "n2 c2 h2 w2"], *, border: int = 0
) -> Float[Tensor, " n"]:
    """Return the structural similarity, the mean over colours and an 11-pixel Gaussian window (sigma 1.5); at most 1.

    Raises:
        ShapeError: The shapes differ, or what the border leaves is smaller than the window.

    Reference:
        Wang, Bovik, Sheikh & Simoncelli, *Image quality assessment: from error visibility to structural similarity*,
        IEEE Transactions on Image Processing, 2004.
    """
    # torchmetrics' mean includes the mirrored border, which is not the paper's
    estimate, truth = inside_border(estimate, truth, border, least=11)
    return torch.stack([1 - images.ssim(one[None], other[None]) for one, other in zip(estimate, truth, strict=True)])


def ms_ssim(
    estimate: Float[Tensor, "n c h w"], truth: Float[Tensor, "n2 c2 h2 w2"], *, border: int = 0
) -> Float[Tensor, " n"]:
    """Return the structural similarity over five scales, each half the size of the one before; at most 1.

    The figure is torchmetrics'.

    Raises:
        ShapeError: The shapes differ, or what the border leaves is less than 176 pixels high or wide.

    Reference:
        Wang, Simoncelli & Bovik, *Multiscale structural similarity for image quality assessment*, Asilomar 2003.
    """
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    estimate, truth = inside_border(estimate, truth, border, least=MS_SSIM_SIDE)
    figures = multiscale_structural_similarity_index_measure(
        estimate, truth, data_range=1.0, reduction="none", normalize="relu"
    )
    return figures.reshape(-1)


def inside_border(estimate: Tensor, truth: Tensor, border: int, least: int = 1) -> tuple[Tensor, Tensor]:
    """Return both pictures without their borders, and the estimate clipped.

    Raises:
        ShapeError: The shapes differ, or less than `least` pixels are left of a side.
    """
    if estimate.shape != truth.shape or estimate.ndim != 4:
        raise ShapeError(
            f"estimate {tuple(estimate.shape)} and truth {tuple(truth.shape)} must be the same (n, c, h, w)"
        )
    height, width = (side - 2 * border for side in truth.shape[2:])
    if min(height, width) < least:
        raise ShapeError(
            f"a border of {border} leaves {height}x{width} of a picture; at least {least}x{least} are needed"
        )
    inside = (..., slice(border, border + height), slice(border, border + width))
    return estimate[inside].clamp(0, 1), truth[inside]
