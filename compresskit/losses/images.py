"""Losses between images, or maps that are looked at as images."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from compresskit.errors import RecipeError, ShapeError
from compresskit.losses.compared import comparable

_WINDOW = 11
"""Side of the Gaussian window in pixels, of the SSIM paper."""
_SIGMA = 1.5


def charbonnier(
    student: Float[Tensor, "*s"], target: Float[Tensor, "*t"], *, epsilon: float | int = 1e-3
) -> Float[Tensor, ""]:
    """Mean Charbonnier distance: L1 that is smooth near zero.

    Args:
        student: Image or map.
        target: The same shape.
        epsilon: Where the distance turns from square to absolute, in the units of the image, above 0. It is also the
            value at equality.

    Raises:
        ShapeError: The shapes differ.
        RecipeError: `epsilon` is not above 0.
    """
    if epsilon <= 0:
        raise RecipeError(f"charbonnier: epsilon must be above 0, got {epsilon}")
    student, target = comparable(student, target, loss="charbonnier")
    return ((student - target).square() + epsilon**2).sqrt().mean()


def ssim(
    student: Float[Tensor, "bs cs hs ws"], target: Float[Tensor, "bt ct ht wt"], *, data_range: float | int = 1.0
) -> Float[Tensor, ""]:
    """One minus the structural similarity: 0 for equal images, up to 2.

    Statistics are taken under an 11 x 11 Gaussian window (sigma 1.5), wherever it fits inside the image, channel by
    channel.

    Args:
        student: Images.
        target: Images of the same shape, at least 11 x 11 pixels.
        data_range: The difference between white and black.

    Raises:
        ShapeError: The shapes differ or the images are smaller than the window.
        RecipeError: `data_range` is not above 0.

    Reference:
        Wang, Bovik, Sheikh & Simoncelli, *Image Quality Assessment: From Error Visibility to Structural Similarity*,
        IEEE TIP 2004. https://doi.org/10.1109/TIP.2003.819861
    """
    if data_range <= 0:
        raise RecipeError(f"ssim: data_range must be above 0, got {data_range}")
    student, target = comparable(student, target, loss="ssim")
    if min(student.shape[2:]) < _WINDOW:
        raise ShapeError(f"ssim: images must be at least {_WINDOW} x {_WINDOW} pixels, got {tuple(student.shape)}")
    with torch.autocast(student.device.type, enabled=False):  # convolutions in half precision would lose the variances
        mean_s, mean_t = _blur(student), _blur(target)
        variance_s = _blur(student.square()) - mean_s.square()
        variance_t = _blur(target.square()) - mean_t.square()
        covariance = _blur(student * target) - mean_s * mean_t
    floor, floor_2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_s * mean_t + floor) / (mean_s.square() + mean_t.square() + floor)
    structure = (2 * covariance + floor_2) / (variance_s + variance_t + floor_2)
    return 1 - (luminance * structure).mean()


def _blur(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c vh vw"]:
    """The local Gaussian mean where the window fits, one direction after the other."""
    offsets = torch.arange(_WINDOW, device=images.device, dtype=images.dtype) - (_WINDOW - 1) / 2
    weights = (-offsets.square() / (2 * _SIGMA**2)).exp()
    window = (weights / weights.sum()).expand(images.shape[1], 1, 1, _WINDOW)
    rows = F.conv2d(images, window, groups=images.shape[1])
    return F.conv2d(rows, window.mT, groups=images.shape[1])
