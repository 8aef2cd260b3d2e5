"""Divergences of class distributions other than forward KL, and KL over a teacher's best classes."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from compresskit.errors import RecipeError, ShapeError
from compresskit.losses.checks import at_least_float32, check_above_zero, class_axis
from compresskit.losses.logits import class_rows, class_scores, mean_over_rows

_LEAST_LOG = -1e4
"""Least log of a share: that of a class at minus infinity, so that products with a share of 0 stay finite."""


def reverse_kl(
    student: Float[Tensor, "*s"],
    teacher: Float[Tensor, "*t"],
    *,
    temperature: float | int = 1.0,
    dim: int | None = None,
) -> Float[Tensor, ""]:
    """Compute the reverse KL divergence T^2 KL(student || teacher) of the softened class distributions.

    It is the sum over classes of q (log q - log p), for shares q of the student and p of the teacher. Where forward KL
    (`kl`) makes a small student cover all that the teacher finds possible, this makes it choose some of it.

    Args:
        student: Logits.
        teacher: Logits of the same shape.
        temperature: Divisor of both logits, above 0.
        dim: Dimension of the classes; None is the last of (n, c) and (n, length, c), and 1 in maps (n, c, h, w).

    Returns:
        Mean over samples (and pixels or tokens), in nats. Scalar, >= 0.

    Raises:
        ShapeError: The shapes differ, or the dimension of the classes is not known.
        RecipeError: `temperature` is not above 0.

    Reference:
        Gu, Dong, Wei & Huang, *MiniLLM: Knowledge Distillation of Large Language Models*, ICLR 2024, section 2.1.
        https://arxiv.org/abs/2306.08543
    """
    check_above_zero(temperature, option="reverse_kl: temperature")
    rows = class_scores(student, teacher, dim=dim, loss="reverse_kl")

    def divergence(student: Tensor, teacher: Tensor) -> Tensor:
        return _kl(_log_shares(student, temperature), _log_shares(teacher, temperature))

    return mean_over_rows(divergence, *rows) * temperature**2


def jsd(
    student: Float[Tensor, "*s"],
    teacher: Float[Tensor, "*t"],
    *,
    beta: float | int = 0.5,
    temperature: float | int = 1.0,
    dim: int | None = None,
) -> Float[Tensor, ""]:
    """Compute the generalised Jensen-Shannon divergence of the softened class distributions, times T^2.

    It is beta KL(p || m) + (1 - beta) KL(q || m) with the mixture m = beta p + (1 - beta) q, for shares p of the
    teacher and q of the student. It is bounded, and symmetric at 1/2. Divided by beta it tends to KL(p || q) as beta
    goes to 0, and divided by 1 - beta to KL(q || p) as beta goes to 1.

    Args:
        student: Logits.
        teacher: Logits of the same shape.
        beta: Share of the teacher in the mixture, between 0 and 1.
        temperature: Divisor of both logits, above 0.
        dim: Dimension of the classes; None is the last of (n, c) and (n, length, c), and 1 in maps (n, c, h, w).

    Returns:
        Mean over samples (and pixels or tokens), in nats. Scalar, >= 0.

    Raises:
        ShapeError: The shapes differ, or the dimension of the classes is not known.
        RecipeError: `temperature` is not above 0, or `beta` is not between 0 and 1.

    Reference:
        Agarwal et al., *On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes*, ICLR 2024,
        section 2. https://arxiv.org/abs/2306.13649
    """
    check_above_zero(temperature, option="jsd: temperature")
    if not 0 < beta < 1:
        raise RecipeError(f"jsd: beta must be between 0 and 1, got {beta}; at the ends use kl and reverse_kl")
    rows = class_scores(student, teacher, dim=dim, loss="jsd")

    def divergence(student: Tensor, teacher: Tensor) -> Tensor:
        log_s, log_t = _log_shares(student, temperature), _log_shares(teacher, temperature)
        log_mix = _log_mixture(log_t, log_s, beta)
        return beta * _kl(log_t, log_mix) + (1 - beta) * _kl(log_s, log_mix)

    return mean_over_rows(divergence, *rows) * temperature**2


def skew_kl(
    student: Float[Tensor, "*s"],
    teacher: Float[Tensor, "*t"],
    *,
    alpha: float | int = 0.1,
    reverse: bool = False,
    temperature: float | int = 1.0,
    dim: int | None = None,
) -> Float[Tensor, ""]:
    """Compute the skew KL divergence T^2 KL(p || alpha p + (1 - alpha) q) of the softened class distributions.

    The teacher's share p in the second place bounds the gradient where the student's share q is small. With `reverse`
    it is T^2 KL(q || alpha q + (1 - alpha) p). At alpha = 0 they are `kl` and `reverse_kl`.

    Args:
        student: Logits.
        teacher: Logits of the same shape.
        alpha: Share of the first distribution in the second place, from 0 to below 1.
        reverse: Whether the student's distribution comes first.
        temperature: Divisor of both logits, above 0.
        dim: Dimension of the classes; None is the last of (n, c) and (n, length, c), and 1 in maps (n, c, h, w).

    Returns:
        Mean over samples (and pixels or tokens), in nats. Scalar, >= 0.

    Raises:
        ShapeError: The shapes differ, or the dimension of the classes is not known.
        RecipeError: `temperature` is not above 0, or `alpha` is not from 0 to below 1.

    Reference:
        Ko, Kim, Chen & Yun, *DistiLLM: Towards Streamlined Distillation for Large Language Models*, ICML 2024,
        section 3.1. https://arxiv.org/abs/2402.03898
    """
    check_above_zero(temperature, option="skew_kl: temperature")
    if not 0 <= alpha < 1:
        raise RecipeError(f"skew_kl: alpha must be from 0 to below 1, got {alpha}")
    rows = class_scores(student, teacher, dim=dim, loss="skew_kl")

    def divergence(student: Tensor, teacher: Tensor) -> Tensor:
        first, second = _log_shares(teacher, temperature), _log_shares(student, temperature)
        first, second = (second, first) if reverse else (first, second)
        return _kl(first, _log_mixture(first, second, alpha) if alpha else second)

    return mean_over_rows(divergence, *rows) * temperature**2


def topk_kl(
    student: Float[Tensor, "*s"],
    teacher: Float[Tensor, "*t"] | Sequence[Shaped[Tensor, "*u"]],
    *,
    k: int | None = None,
    temperature: float | int = 1.0,
    dim: int | None = None,
) -> Float[Tensor, ""]:
    """Compute T^2 KL(teacher || student) for a teacher cut to its k most probable classes.

    The teacher's shares are those of a softmax over these k logits; the student's are of a softmax over all of its
    logits. With all classes it is `kl`. A teacher that is cut off is more certain than a whole one, so the student
    learns to be too certain: the smaller k, the more.

    Args:
        student: Logits.
        teacher: Logits of the same shape; or the pair (values, indices) of the logits (or log probabilities) kept of a
            teacher and of their classes, both of the student's shape but for k in place of the classes.
        k: Number of classes to keep, at least 1; None keeps all that there are.
        temperature: Divisor of both logits, above 0.
        dim: Dimension of the classes; None is the last of (n, c) and (n, length, c), and 1 in maps (n, c, h, w).

    Returns:
        Mean over samples (and pixels or tokens), in nats. Scalar, >= 0.

    Raises:
        ShapeError: The shapes do not fit, or the dimension of the classes is not known.
        RecipeError: `temperature` is not above 0, or `k` is below 1.

    Reference:
        Anshumann et al., *Sparse Logit Sampling: Accelerating Knowledge Distillation in LLMs*, ACL 2025, which shows
        the bias of the cut. https://arxiv.org/abs/2503.16870
    """
    check_above_zero(temperature, option="topk_kl: temperature")
    if k is not None and k < 1:
        raise RecipeError(f"topk_kl: k must be at least 1, got {k}")
    values, indices = _best(student, teacher, k, dim)
    axis = class_axis(student.shape, dim, loss="topk_kl")
    rows = class_rows(at_least_float32(student), axis)
    values, indices = class_rows(at_least_float32(values), axis), class_rows(indices, axis).long()
    logits = rows / temperature
    kept = logits.gather(1, indices) - logits.logsumexp(1, keepdim=True)
    return _kl(_log_shares(values, temperature), kept.clamp_min(_LEAST_LOG)).mean() * temperature**2


def _best(student: Tensor, teacher: Tensor | Sequence[Tensor], k: int | None, dim: int | None) -> tuple[Tensor, Tensor]:
    """Return the teacher's kept logits and their classes."""
    axis = class_axis(student.shape, dim, loss="topk_kl")
    if isinstance(teacher, Tensor):
        if student.shape != teacher.shape:
            shapes = f"{tuple(student.shape)} and {tuple(teacher.shape)}"
            raise ShapeError(
                f"topk_kl: shapes must be equal, got {shapes}; a sparse teacher is a pair (values, indices)"
            )
        best = teacher.topk(min(k or teacher.shape[axis], teacher.shape[axis]), dim=axis)
        return best.values, best.indices
    if len(teacher) != 2 or teacher[0].shape != teacher[1].shape or teacher[1].is_floating_point():
        raise ShapeError("topk_kl: a sparse teacher is a pair of values and, of the same shape, whole-number indices")
    values, indices = teacher
    if _without(values.shape, axis) != _without(student.shape, axis):
        raise ShapeError(f"topk_kl: student {tuple(student.shape)} and values {tuple(values.shape)} do not fit")
    if k is not None and k < values.shape[axis]:
        best = values.topk(k, dim=axis)
        return best.values, indices.gather(axis, best.indices)
    return values, indices


def _without(shape: Sequence[int], axis: int) -> list[int]:
    return [size for number, size in enumerate(shape) if number != axis]


def _log_shares(logits: Float[Tensor, "m c"], temperature: float | int) -> Float[Tensor, "m c"]:
    return (logits / temperature).log_softmax(1).clamp_min(_LEAST_LOG)


def _log_mixture(one: Float[Tensor, "m c"], other: Float[Tensor, "m c"], share: float | int) -> Float[Tensor, "m c"]:
    """Return the log of share times the first distribution plus (1 - share) times the second."""
    return torch.logaddexp(one + math.log(share), other + math.log(1 - share))


def _kl(log_p: Float[Tensor, "m c"], log_q: Float[Tensor, "m c"]) -> Float[Tensor, " m"]:
    return (log_p.exp() * (log_p - log_q)).sum(1)
