"""Decoupled distillation: the label's share and the distribution over the other classes, weighted separately."""

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from compresskit.errors import DataError, ShapeError
from compresskit.losses.checks import check_above_zero, check_not_negative, class_axis
from compresskit.losses.logits import class_scores, forward_kl


def dkd(
    student: Float[Tensor, "*s"],
    teacher: Float[Tensor, "*t"],
    target: Shaped[Tensor, "*l"],
    *,
    alpha: float | int = 1.0,
    beta: float | int = 8.0,
    temperature: float | int = 4.0,
    dim: int | None = None,
) -> Float[Tensor, ""]:
    """Compute the decoupled distillation loss T^2 (alpha TCKD + beta NCKD).

    TCKD is KL(teacher || student) of the two shares "the label's class" and "any other class"; NCKD is KL(teacher ||
    student) of the distribution over the other classes alone. `kl` is the case alpha = 1 and, for each sample, beta =
    the teacher's share of the other classes: where the teacher is sure, `kl` has almost no NCKD in it.

    Args:
        student: Logits.
        teacher: Logits of the same shape.
        target: Class indices, of the logits' shape without `dim`.
        alpha: Weight of the target-class part, at least 0.
        beta: Weight of the non-target-class part, at least 0.
        temperature: Divisor of both logits, above 0.
        dim: Dimension of the classes; None is the last of (n, c) and (n, length, c), and 1 in maps (n, c, h, w).

    Returns:
        Mean over samples (and pixels or tokens), in nats. Scalar, >= 0.

    Raises:
        ShapeError: The shapes differ, the labels do not fit the logits, or there is only one class.
        DataError: A label is not one of the classes.
        RecipeError: `temperature` is not above 0, or a weight is negative.

    Reference:
        Zhao, Cui, Song, Qiu & Liang, *Decoupled Knowledge Distillation*, CVPR 2022, section 3.
        https://arxiv.org/abs/2203.08679
    """
    check_above_zero(temperature, option="dkd: temperature")
    check_not_negative(alpha, option="dkd: alpha")
    check_not_negative(beta, option="dkd: beta")
    shape = student.shape
    student, teacher = class_scores(student, teacher, dim=dim, loss="dkd")
    is_label = _is_label(target, shape, class_axis(shape, dim, loss="dkd"))
    (label_s, others_s), (label_t, others_t) = (
        _decoupled(logits / temperature, is_label) for logits in (student, teacher)
    )
    tckd = forward_kl(label_s, label_t, dim=1).mean()
    nckd = forward_kl(others_s, others_t, dim=1).mean()
    return (alpha * tckd + beta * nckd) * temperature**2


def _decoupled(
    logits: Float[Tensor, "m c"], is_label: Bool[Tensor, "m c"]
) -> tuple[Float[Tensor, "m 2"], Float[Tensor, "m c"]]:
    """Return the logs of the two shares, label and not label, and of the distribution over the other classes."""
    logs = logits.log_softmax(1)
    shares = [logs.masked_fill(left_out, -torch.inf).logsumexp(1) for left_out in (~is_label, is_label)]
    return torch.stack(shares, 1), logits.masked_fill(is_label, -torch.inf).log_softmax(1)


def _is_label(target: Shaped[Tensor, "*l"], shape: torch.Size, dim: int) -> Bool[Tensor, "m c"]:
    classes, places = shape[dim], [size for axis, size in enumerate(shape) if axis != dim]
    if target.is_floating_point() or list(target.shape) != places:
        raise ShapeError(
            f"dkd: labels must be class indices of shape {tuple(places)}, "
            f"got {str(target.dtype).removeprefix('torch.')} of {tuple(target.shape)}"
        )
    if classes < 2:
        raise ShapeError(f"dkd: logits {tuple(shape)} have one class in dimension {dim}; it needs at least 2")
    return _one_hot(target.reshape(-1).long(), classes)


def _one_hot(labels: Int[Tensor, " m"], classes: int) -> Bool[Tensor, "m c"]:
    outside = labels[(labels < 0) | (labels >= classes)]
    if len(outside):
        raise DataError(f"dkd: labels must be from 0 to {classes - 1}, got {outside[0].item()}")
    return labels[:, None] == torch.arange(classes, device=labels.device)
