"""Losses between class scores, one vector of classes for each sample, pixel or token."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from compresskit.errors import RecipeError, ShapeError
from compresskit.losses.checks import at_least_float32, check_above_zero, class_axis, same_shape
from compresskit.losses.vectors import centre, unit

_MANY = 1 << 22
"""Logits of a side from which on a divergence is computed in pieces."""

_PIECE = 1 << 18
"""Logits of a side in one piece."""


def kl(
    student: Float[Tensor, "*s"],
    teacher: Float[Tensor, "*t"],
    *,
    temperature: float | int = 1.0,
    dim: int | None = None,
) -> Float[Tensor, ""]:
    """Compute the forward KL divergence of the softened class distributions, times the squared temperature.

    The divergence is summed over classes and averaged over everything else, so its size depends neither on the number
    of classes nor on height and width, and a gradient keeps its size when the temperature changes.

    Args:
        student: Logits.
        teacher: Logits of the same shape. A class at minus infinity has no share.
        temperature: Divisor of both logits, above 0.
        dim: Dimension of the classes; None is the last of (n, c) and (n, length, c), and 1 in maps (n, c, h, w).

    Returns:
        Mean over samples (and pixels or tokens) of T^2 KL(teacher || student), in nats. Scalar, >= 0.

    Raises:
        ShapeError: The shapes differ.
        RecipeError: `temperature` is not above 0.

    Reference:
        Hinton, Vinyals & Dean, *Distilling the Knowledge in a Neural Network*, 2015. https://arxiv.org/abs/1503.02531
    """
    check_above_zero(temperature, option="kl: temperature")
    student, teacher = class_scores(student, teacher, dim=dim, loss="kl")
    return _softened_kl(student, teacher, temperature)


def standardized_kl(
    student: Float[Tensor, "*s"],
    teacher: Float[Tensor, "*t"],
    *,
    temperature: float | int = 2.0,
    dim: int | None = None,
) -> Float[Tensor, ""]:
    """Compute `kl` between standardised logits, so that the student need not have the teacher's range of logits.

    Each vector of logits z becomes (z - mean) / standard deviation, over its classes and with the divisor c, and is
    then softened by the temperature. Logits that are all equal become zeros and get no gradient.

    Args:
        student: Logits, all finite.
        teacher: Logits of the same shape, all finite.
        temperature: Divisor of the standardised logits, above 0.
        dim: Dimension of the classes; None is the last of (n, c) and (n, length, c), and 1 in maps (n, c, h, w).

    Returns:
        Mean over samples (and pixels or tokens) of T^2 KL(teacher || student), in nats. Scalar, >= 0.

    Raises:
        ShapeError: The shapes differ.
        RecipeError: `temperature` is not above 0.

    Reference:
        Sun, Ren, Li, Wang & Cao, *Logit Standardization in Knowledge Distillation*, CVPR 2024, algorithm 1.
        https://arxiv.org/abs/2403.01427
    """
    check_above_zero(temperature, option="standardized_kl: temperature")
    student, teacher = class_scores(student, teacher, dim=dim, loss="standardized_kl")
    return _softened_kl(student, teacher, temperature, _standardized)


def cross_entropy(
    student: Float[Tensor, "*s"],
    target: Shaped[Tensor, "*t"],
    *,
    label_smoothing: float | int = 0.0,
    ignore_index: int = -100,
    dim: int | None = None,
) -> Float[Tensor, ""]:
    """Compute the mean cross entropy of logits against labels.

    Args:
        student: Logits.
        target: Class indices of the logits' shape without `dim`, or class probabilities of their whole shape.
        label_smoothing: Share of each label that is spread evenly over all classes, from 0 to 1.
        ignore_index: Class index of places that do not count.
        dim: Dimension of the classes; None is the last of (n, c) and (n, length, c), and 1 in maps (n, c, h, w). Labels
            that fit (n, c, length) alone say so.

    Returns:
        Mean over the samples (and pixels or tokens) that count, in nats. Scalar, >= 0; 0 if no token or pixel counts.

    Raises:
        ShapeError: The labels have neither shape, or (on the CPU) one lies outside the classes.
        RecipeError: `label_smoothing` is outside 0 to 1.
    """
    if not 0 <= label_smoothing <= 1:
        raise RecipeError(f"cross_entropy: label_smoothing must be from 0 to 1, got {label_smoothing}")
    axis = class_axis(student.shape, dim, loss="cross_entropy")
    indices = not target.is_floating_point()
    if indices and dim is None and student.ndim == 3 and target.shape == student.shape[::2] != student.shape[:2]:
        axis = 1
    if target.shape != (student.shape[:axis] + student.shape[axis + 1 :] if indices else student.shape):
        raise ShapeError(
            f"cross_entropy: logits {tuple(student.shape)} and {'labels' if indices else 'probabilities'} "
            f"{tuple(target.shape)} do not fit; the classes are dimension {axis} of the logits, or else write dim="
        )
    logits = at_least_float32(student)
    labels = target.long() if indices else target.to(logits.dtype)
    if axis != 1:  # where torch looks for them
        logits, labels = class_rows(logits, axis), labels.flatten() if indices else class_rows(labels, axis)
    try:
        value = F.cross_entropy(logits, labels, label_smoothing=label_smoothing, ignore_index=ignore_index)
    except IndexError as error:  # a check of the labels beforehand would make a GPU wait
        raise ShapeError(f"cross_entropy: a label is none of the {student.shape[axis]} classes: {error}") from error
    if student.ndim < 3 or not indices:
        return value
    return torch.where((labels != ignore_index).any(), value, 0.0)  # torch's mean over no token is NaN


def class_scores(
    student: Float[Tensor, "*s"], teacher: Float[Tensor, "*t"], *, dim: int | None, loss: str
) -> tuple[Float[Tensor, "m c"], Float[Tensor, "m c"]]:
    """Return both sides' logits in float32 or better, a row of classes for each sample, pixel or token.

    Raises:
        ShapeError: The shapes differ, or the dimension of the classes is not known.
    """
    student, teacher = same_shape(student, teacher, loss=loss)
    axis = class_axis(student.shape, dim, loss=loss)
    return class_rows(student, axis), class_rows(teacher, axis)


def class_rows(logits: Shaped[Tensor, "*s"], axis: int) -> Shaped[Tensor, "m c"]:
    """Return logits as rows of the classes, which are at `axis`."""
    return logits.movedim(axis, -1).reshape(-1, logits.shape[axis])


def forward_kl(
    log_student: Float[Tensor, "*s"], log_teacher: Float[Tensor, "*s"], *, dim: int
) -> Float[Tensor, "*rest"]:
    """Return KL(teacher || student) of distributions along `dim`, from their logs; minus infinity is a share of 0."""
    share = log_teacher.exp()
    # 0 log 0 = 0; a teacher's NaN is no share of 0, and has to show
    return torch.where(share == 0, 0.0, share * (log_teacher - log_student)).sum(dim)


def mean_over_rows(
    divergence: Callable[[Tensor, Tensor], Tensor], student: Float[Tensor, "m c"], teacher: Float[Tensor, "m c"]
) -> Float[Tensor, ""]:
    """Return the mean of a divergence of rows, piece by piece where there are many logits.

    A divergence of whole logits holds several tensors of their size until the backward. In pieces only the gradient has
    that size; numbers differ by rounding.

    Args:
        divergence: Function from rows of both sides to one number for each.
        student: Rows of logits.
        teacher: Rows of logits, a constant.
    """
    if student.numel() < _MANY or teacher.requires_grad:
        return divergence(student, teacher).mean()
    return _InPieces.apply(divergence, student, teacher)


class _InPieces(torch.autograd.Function):
    """The mean of a divergence over rows, and its gradient, computed for some rows after the others."""

    @staticmethod
    def forward(ctx: Any, divergence: Callable[[Tensor, Tensor], Tensor], student: Tensor, teacher: Tensor) -> Tensor:
        total = student.new_zeros((), dtype=torch.float64)
        for piece in _pieces(student):
            total += divergence(student[piece], teacher[piece]).sum()
        if ctx.needs_input_grad[1]:
            ctx.divergence, ctx.sides, ctx.gradient = divergence, (student.detach(), teacher), None
        return (total / len(student)).to(student.dtype)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradient is None:  # a second backward through a retained graph finds it
            student, teacher = ctx.sides
            ctx.gradient = student if _is_only_owner(student) else torch.empty_like(student)
            for piece in _pieces(student):
                with torch.enable_grad():
                    own = student[piece].clone().requires_grad_()
                    value = ctx.divergence(own, teacher[piece]).sum()
                torch.div(torch.autograd.grad(value, own)[0], len(student), out=ctx.gradient[piece])
            ctx.sides = None
            del student, teacher  # before there is another tensor of their size
        return None, ctx.gradient * outputs[0], None


def _pieces(rows: Tensor) -> Iterator[slice]:
    size = max(1, _PIECE // rows.shape[1])
    return (slice(start, start + size) for start in range(0, len(rows), size))


def _is_only_owner(tensor: Tensor) -> bool:
    """Return whether no other tensor and no part of the graph shares the memory, so that a result may take its place.

    For 1,024 x 20,000 logits in float32 the peak of a step is 187 MB in place of 263.
    """
    storage = tensor.untyped_storage()
    users = torch._C._storage_Use_Count(storage._cdata)  # pyright: ignore  # noqa: SLF001
    return users == 2  # this tensor, and the object `storage`


def _softened_kl(
    student: Float[Tensor, "m c"],
    teacher: Float[Tensor, "m c"],
    temperature: float | int,
    prepared: Callable[[Tensor], Tensor] = lambda logits: logits,
) -> Float[Tensor, ""]:
    def divergence(student: Tensor, teacher: Tensor) -> Tensor:
        log_student, log_teacher = ((prepared(side) / temperature).log_softmax(1) for side in (student, teacher))
        return forward_kl(log_student, log_teacher, dim=1)

    return mean_over_rows(divergence, student, teacher) * temperature**2


def _standardized(logits: Float[Tensor, "m c"]) -> Float[Tensor, "m c"]:
    return unit(centre(logits, dim=1), dim=1) * logits.shape[1] ** 0.5
