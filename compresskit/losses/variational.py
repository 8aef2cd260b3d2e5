"""Variational information distillation: a squared difference with a learned tolerance for each channel."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from compresskit.errors import RecipeError, ShapeError
from compresskit.losses.checks import channel_axis, same_shape

_LEAST_VARIANCE = 1e-5
"""Added to the learned variance, so that a perfect match does not drive it to 0 and the loss to minus infinity."""


class Variational(nn.Module):
    """Negative log likelihood of the teacher's features under a Gaussian around the student's (VID).

    Mean over elements of ((teacher - student)^2 / variance + log variance) / 2, with one variance for each channel,
    trained along. Channels that the student cannot predict get a large one and count less. The student's features, with
    the match's adapter, are the paper's mean function. A constant is left out, so the value may be negative.

    Args:
        channels: Channels of the teacher's features.
        variance: Variance of every channel at the start, above 0.00001; at 1 the first value is half the `mse`.

    Raises:
        RecipeError: `channels` or `variance` is too small.

    Reference:
        Ahn, Hu, Damianou, Lawrence & Dai, *Variational Information Distillation for Knowledge Transfer*, CVPR 2019,
        section 2.1. https://arxiv.org/abs/1904.05835
    """

    def __init__(self, *, channels: int, variance: float | int = 1.0) -> None:
        super().__init__()
        if channels < 1:
            raise RecipeError(f"variational: channels must be at least 1, got {channels}")
        if not variance > _LEAST_VARIANCE:
            raise RecipeError(f"variational: variance must be above {_LEAST_VARIANCE:f}, got {variance}")
        rest = variance - _LEAST_VARIANCE
        before_softplus = rest + math.log(-math.expm1(-rest))
        self.before_softplus = nn.Parameter(torch.full((channels,), before_softplus))

    def forward(self, student: Float[Tensor, "*s"], teacher: Float[Tensor, "*t"]) -> Float[Tensor, ""]:
        """Compute the mean over all elements.

        Args:
            student: Vectors (n, c), tokens (n, length, c), maps (n, c, h, w) or volumes.
            teacher: Features of the same shape.

        Raises:
            ShapeError: The shapes differ, or have another number of channels than this object.
        """
        student, teacher = same_shape(student, teacher, loss="variational")
        axis, channels = channel_axis(student), len(self.before_softplus)
        if student.shape[axis] != channels:
            raise ShapeError(f"variational: made for {channels} channels, got features of {tuple(student.shape)}")
        variance = F.softplus(self.before_softplus) + _LEAST_VARIANCE
        variance = variance.view([-1 if other == axis else 1 for other in range(student.ndim)])
        return ((teacher - student).square() / variance + variance.log()).mean() / 2
