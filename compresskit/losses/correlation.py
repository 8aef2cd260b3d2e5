"""Correlation of predictions: the order of preference among classes, whatever their exact probabilities."""

from jaxtyping import Float
from torch import Tensor

from compresskit.errors import ShapeError
from compresskit.losses.checks import check_above_zero, check_not_negative
from compresskit.losses.logits import class_scores
from compresskit.losses.vectors import centre, cosine_distance


def dist(
    student: Float[Tensor, "*s"],
    teacher: Float[Tensor, "*t"],
    *,
    beta: float | int = 1.0,
    gamma: float | int = 1.0,
    temperature: float | int = 1.0,
    dim: int | None = None,
) -> Float[Tensor, ""]:
    """Compute one minus the Pearson correlation of the softened predictions, within samples and within classes.

    It is beta times the mean over samples of (1 - correlation over the classes), plus gamma times the mean over classes
    of (1 - correlation over the batch). The second part depends on which samples share a batch. For maps of logits each
    pixel is a sample.

    There is no factor T^2. A correlation does not change when the softened probabilities move towards each other, so
    the gradient keeps its size at any temperature without one; the authors' code multiplies by it all the same.

    Args:
        student: Logits.
        teacher: Logits of the same shape.
        beta: Weight of the inter-class part, within each sample, at least 0.
        gamma: Weight of the intra-class part, within each class, at least 0.
        temperature: Divisor of both logits before the softmax, above 0.
        dim: Dimension of the classes; None is the last of (n, c) and (n, length, c), and 1 in maps (n, c, h, w).

    Returns:
        Scalar, from 0 to 2 (beta + gamma). Probabilities that are all equal have no correlation and count as 1/2
        against others.

    Raises:
        ShapeError: The shapes differ, or there is only one sample.
        RecipeError: `temperature` is not above 0, or a weight is negative.

    Reference:
        Huang, You, Wang, Qian & Xu, *Knowledge Distillation from A Stronger Teacher*, NeurIPS 2022, section 4.
        https://arxiv.org/abs/2205.10536
    """
    check_above_zero(temperature, option="dist: temperature")
    check_not_negative(beta, option="dist: beta")
    check_not_negative(gamma, option="dist: gamma")
    student, teacher = class_scores(student, teacher, dim=dim, loss="dist")
    if len(student) < 2:
        raise ShapeError("dist: it compares samples with one another and needs a batch of at least 2, got 1")
    student, teacher = ((logits / temperature).softmax(1) for logits in (student, teacher))
    inter, intra = (cosine_distance(centre(student, dim=d), centre(teacher, dim=d), dim=d).mean() for d in (1, 0))
    return beta * inter + gamma * intra
