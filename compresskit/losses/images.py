"""Losses between images, or between maps treated as images."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from compresskit.losses.checks import check_above_zero, same_shape, same_size_images

_WINDOW = 11
"""Side of the SSIM paper's Gaussian window, in pixels."""
_SIGMA = 1.5
_EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the MS-SSIM paper, from the finest scale to the coarsest."""
_LEAST_FACTOR = 1e-4
"""Least similarity of one scale."""


def charbonnier(
    student: Float[Tensor, "*s"], target: Float[Tensor, "*t"], *, epsilon: float | int = 1e-3
) -> Float[Tensor, ""]:
    """Compute the mean Charbonnier distance, an L1 that is smooth near zero.

    Args:
        student: Image or map.
        target: Image or map of the same shape.
        epsilon: Difference at which the distance turns from square to absolute, in the units of the image, above 0. It
            is also the value for equal images.

    Raises:
        ShapeError: The shapes differ.
        RecipeError: `epsilon` is not above 0.
    """
    check_above_zero(epsilon, option="charbonnier: epsilon")
    student, target = same_shape(student, target, loss="charbonnier")
    return ((student - target).square() + epsilon**2).sqrt().mean()


def ssim(
    student: Float[Tensor, "*s"], target: Float[Tensor, "*t"], *, data_range: float | int = 1.0
) -> Float[Tensor, ""]:
    """Compute one minus the structural similarity: 0 for equal images, up to 2.

    Statistics are taken channel by channel under an 11 x 11 Gaussian window (sigma 1.5), wherever it fits inside the
    image.

    Args:
        student: Images (n, c, h, w).
        target: Images of the same shape, at least 11 x 11 pixels.
        data_range: Difference between white and black.

    Raises:
        ShapeError: The shapes differ, are not those of images, or are smaller than the window.
        RecipeError: `data_range` is not above 0.

    Reference:
        Wang, Bovik, Sheikh & Simoncelli, *Image Quality Assessment: From Error Visibility to Structural Similarity*,
        IEEE TIP 2004. https://doi.org/10.1109/TIP.2003.819861
    """
    check_above_zero(data_range, option="ssim: data_range")
    student, target = same_size_images(student, target, loss="ssim", least=_WINDOW)
    luminance, structure = _similarity(student, target, data_range)
    return 1 - (luminance * structure).mean()


def ms_ssim(
    student: Float[Tensor, "*s"], target: Float[Tensor, "*t"], *, data_range: float | int = 1.0
) -> Float[Tensor, ""]:
    """Compute one minus the multi-scale structural similarity: 0 for equal images, up to 1.

    The structure of `ssim` is compared at five scales, each the average of 2 x 2 pixels of the one before, and the
    luminance at the last. An image's value is the product of the five means over places and channels, raised to the
    paper's exponents. A mean below 0.0001 counts as 0.0001 and gets no gradient, because that of its power is not
    finite.

    Args:
        student: Images (n, c, h, w).
        target: Images of the same shape, at least 176 x 176 pixels, so that the window fits the last scale.
        data_range: Difference between white and black.

    Raises:
        ShapeError: The shapes differ, are not those of images, or are too small.
        RecipeError: `data_range` is not above 0.

    Reference:
        Wang, Simoncelli & Bovik, *Multiscale Structural Similarity for Image Quality Assessment*, Asilomar 2003.
        https://doi.org/10.1109/ACSSC.2003.1292216
    """
    check_above_zero(data_range, option="ms_ssim: data_range")
    student, target = same_size_images(student, target, loss="ms_ssim", least=_WINDOW * 2 ** (len(_EXPONENTS) - 1))
    factors, last = [], len(_EXPONENTS) - 1
    for scale, exponent in enumerate(_EXPONENTS):
        luminance, structure = _similarity(student, target, data_range)
        factor = (luminance * structure if scale == last else structure).mean(dim=(1, 2, 3))
        factors.append(factor.clamp_min(_LEAST_FACTOR) ** exponent)
        student, target = F.avg_pool2d(student, 2), F.avg_pool2d(target, 2)
    return 1 - torch.stack(factors).prod(dim=0).mean()


def gradient(student: Float[Tensor, "*s"], target: Float[Tensor, "*t"]) -> Float[Tensor, ""]:
    """Compute the mean absolute difference between the gradients of two images: edges count, brightness does not.

    A gradient is the difference of neighbouring pixels; the means over the vertical and the horizontal gradients are
    averaged.

    Args:
        student: Images or maps (n, c, h, w).
        target: Images or maps of the same shape, at least 2 x 2 pixels.

    Raises:
        ShapeError: The shapes differ, are not those of images, or are smaller than 2 x 2.
    """
    student, target = same_size_images(student, target, loss="gradient", least=2)
    difference = student - target
    return (difference.diff(dim=2).abs().mean() + difference.diff(dim=3).abs().mean()) / 2


def fourier_amplitude(student: Float[Tensor, "*s"], target: Float[Tensor, "*t"]) -> Float[Tensor, ""]:
    """Compute the mean absolute difference between the amplitude spectra of two images: how much detail, not where.

    The transform is the orthonormal one over height and width of each channel, so a spectrum has the mean square of
    its image. The phase is not compared: an image shifted around the border has the same spectrum.

    Args:
        student: Images or maps (n, c, h, w).
        target: Images or maps of the same shape.

    Raises:
        ShapeError: The shapes differ, or are not those of images.

    Reference:
        Fuoli, Van Gool & Timofte, *Fourier Space Losses for Efficient Perceptual Image Super-Resolution*, ICCV 2021,
        the amplitude term. https://arxiv.org/abs/2106.00783
    """
    student, target = same_size_images(student, target, loss="fourier_amplitude", least=1)
    amplitude_s, amplitude_t = (torch.fft.fft2(images, norm="ortho").abs() for images in (student, target))
    return F.l1_loss(amplitude_s, amplitude_t)


def _similarity(
    student: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"], data_range: float | int
) -> tuple[Float[Tensor, "b c vh vw"], Float[Tensor, "b c vh vw"]]:
    """Return the luminance and the structure (with contrast) terms of SSIM at each place where the window fits."""
    with torch.autocast(student.device.type, enabled=False):  # convolutions in half precision would lose the variances
        mean_s, mean_t = _blur(student), _blur(target)
        variance_s, variance_t = _variance(student, mean_s), _variance(target, mean_t)
        bound = (variance_s + variance_t) / 2  # a bound for exact numbers, kept in spite of rounding
        covariance = (_blur(student * target) - mean_s * mean_t).clamp(-bound, bound)
    floor, floor_2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_s * mean_t + floor) / (mean_s.square() + mean_t.square() + floor)
    structure = (2 * covariance + floor_2) / (variance_s + variance_t + floor_2)
    return luminance, structure


def _variance(images: Float[Tensor, "b c h w"], mean: Float[Tensor, "b c vh vw"]) -> Float[Tensor, "b c vh vw"]:
    """Return the local variance; exactly 0 where it is only rounding."""
    square = _blur(images.square())
    variance = square - mean.square()
    return torch.where(variance > 16 * torch.finfo(images.dtype).eps * square, variance, 0.0)


def _blur(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c vh vw"]:
    """Return the local Gaussian mean where the window fits, computed one direction after the other."""
    offsets = torch.arange(_WINDOW, device=images.device, dtype=images.dtype) - (_WINDOW - 1) / 2
    weights = (-offsets.square() / (2 * _SIGMA**2)).exp()
    window = (weights / weights.sum()).expand(images.shape[1], 1, 1, _WINDOW)
    rows = F.conv2d(images, window, groups=images.shape[1])
    return F.conv2d(rows, window.mT, groups=images.shape[1])
