"""Losses between feature maps, or any two tensors."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from compresskit.errors import RecipeError, ShapeError
from compresskit.losses.checks import at_least_float32, channel_axis, same_shape
from compresskit.losses.vectors import cosine_distance

_SILENT = 1e-24
"""Mean square below which a teacher counts as zeros, which no difference can be relative to."""


def mse(student: Float[Tensor, "*s"], teacher: Shaped[Tensor, "*t"]) -> Float[Tensor, ""]:
    """Compute the mean squared difference over all elements.

    Raises:
        ShapeError: The shapes differ.
    """
    return F.mse_loss(*same_shape(student, teacher, loss="mse"))


def relative_mse(student: Float[Tensor, "*s"], teacher: Shaped[Tensor, "*t"]) -> Float[Tensor, ""]:
    """Compute the mean squared difference over the teacher's mean square: 1 for a student of zeros.

    Without a norm between them, the activations of one layer may be a hundred times those of another; this loss weighs
    them alike. The mean square is that of the batch, so a sample's share depends a little on the other samples. Against
    a teacher of zeros it is `mse`.

    Raises:
        ShapeError: The shapes differ.
    """
    student, teacher = same_shape(student, teacher, loss="relative_mse")
    scale = teacher.square().mean()
    return F.mse_loss(student, teacher) / torch.where(scale > _SILENT, scale, 1.0)


def l1(student: Float[Tensor, "*s"], teacher: Shaped[Tensor, "*t"]) -> Float[Tensor, ""]:
    """Compute the mean absolute difference over all elements.

    Raises:
        ShapeError: The shapes differ.
    """
    return F.l1_loss(*same_shape(student, teacher, loss="l1"))


def cosine(student: Float[Tensor, "*s"], teacher: Shaped[Tensor, "*t"]) -> Float[Tensor, ""]:
    """Compute the mean of one minus the cosine between the two feature vectors of each place.

    Lengths do not matter. A student's vector of zeros has no direction: it counts as 1/2 and gets no gradient.

    Args:
        student: Vectors (n, c), tokens (n, length, c), maps (n, c, h, w) or volumes.
        teacher: Features of the same shape.

    Returns:
        Mean over samples (and pixels or tokens), from 0 to 2.

    Raises:
        ShapeError: The shapes differ, or there is no batch.
    """
    student, teacher = same_shape(student, teacher, loss="cosine")
    if student.ndim < 2:
        raise ShapeError(f"cosine: it needs vectors (n, c), tokens or maps, got {tuple(student.shape)}")
    return cosine_distance(student, teacher, dim=channel_axis(student)).mean()


def attention_transfer(
    student: Float[Tensor, "*s"], teacher: Float[Tensor, "*t"], *, power: float | int = 2.0
) -> Float[Tensor, ""]:
    """Compute the distance between the attention maps of student and teacher, whatever their channel counts.

    Args:
        student: Feature map (n, c, h, w), volume, or tokens (n, length, c).
        teacher: Features of the same batch, height and width, or length; channels may differ.
        power: Exponent on |activation| before averaging over channels, at least 1. Larger values favour peaks.

    Returns:
        Mean squared difference of the two unit-norm attention maps. Scalar, >= 0.

    Raises:
        ShapeError: The two differ in batch or spatial size, or are vectors.
        RecipeError: `power` is below 1, where the gradient at zero has no bound.

    Reference:
        Zagoruyko & Komodakis, *Paying More Attention to Attention*, ICLR 2017, section 3.1.
        https://arxiv.org/abs/1612.03928
    """
    if power < 1:
        raise RecipeError(f"attention_transfer: power must be at least 1, got {power}")
    if min(student.ndim, teacher.ndim) < 3 or _places(student) != _places(teacher):
        raise ShapeError(
            f"attention_transfer: student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must share batch, "
            "height and width, or length; the adapter 'auto' resizes maps"
        )
    return F.mse_loss(_attention(student, power), _attention(teacher, power))


def _attention(features: Float[Tensor, "b ..."], power: float | int) -> Float[Tensor, "b places"]:
    return F.normalize(at_least_float32(features).abs().pow(power).mean(dim=channel_axis(features)).flatten(1), dim=1)


def _places(features: Float[Tensor, "*s"]) -> list[int]:
    """Return the shape without channels."""
    return [size for axis, size in enumerate(features.shape) if axis != channel_axis(features)]
