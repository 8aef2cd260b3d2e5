"""Similarity matrices of the samples of a batch: the two networks' features may be of any size."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from compresskit.losses.checks import sample_rows
from compresskit.losses.logits import forward_kl
from compresskit.losses.vectors import centre, cosine_distance, divide_by_largest, inner_products, unit

_LEAST_KERNEL = 1e-6
"""Least value of the kernel, that of opposite samples, so that its logarithm is finite."""


def similarity_preserving(student: Float[Tensor, "bs ..."], teacher: Float[Tensor, "bt ..."]) -> Float[Tensor, ""]:
    """Compute the distance between the two batches' similarity matrices, each row at unit length.

    G is Q Q^T with its rows normalised, for Q of (n, features). The loss is the mean of (G_student - G_teacher)^2 over
    all n^2 entries. It depends on which samples share a batch.

    Args:
        student: Features of any shape (n, ...).
        teacher: Features of any shape for the same batch.

    Returns:
        Scalar, >= 0.

    Raises:
        ShapeError: The batches differ, or hold fewer than 2 samples.

    Reference:
        Tung & Mori, *Similarity-Preserving Knowledge Distillation*, ICCV 2019, section 3.1.
        https://arxiv.org/abs/1907.09682
    """
    rows_s, rows_t = (
        divide_by_largest(side) for side in sample_rows(student, teacher, loss="similarity_preserving", least=2)
    )
    return F.mse_loss(unit(inner_products(rows_s, rows_s), dim=1), unit(inner_products(rows_t, rows_t), dim=1))


def cka(student: Float[Tensor, "bs ..."], teacher: Float[Tensor, "bt ..."]) -> Float[Tensor, ""]:
    """Compute one minus the linear centred kernel alignment of the two batches of features.

    With X and Y of (n, features), each feature centred over the batch, CKA is the cosine between X X^T and Y Y^T seen
    as vectors. This is the paper's plain (biased) estimator: with far more features than samples it lies near 1 even
    for unrelated ones, so use large batches or pooled features. It depends on which samples share a batch.

    Args:
        student: Features of any shape (n, ...).
        teacher: Features of any shape for the same batch.

    Returns:
        Scalar, from 0 (equal up to rotation, scale and shift) to 1. Features that do not vary over the batch count as
        1/2 against others.

    Raises:
        ShapeError: The batches differ, or hold fewer than 3 samples: two are always aligned.

    Reference:
        Kornblith, Norouzi, Lee & Hinton, *Similarity of Neural Network Representations Revisited*, ICML 2019,
        section 3. https://arxiv.org/abs/1905.00414
    """
    rows_s, rows_t = (
        divide_by_largest(centre(side, dim=0)) for side in sample_rows(student, teacher, loss="cka", least=3)
    )
    return cosine_distance(inner_products(rows_s, rows_s).flatten(), inner_products(rows_t, rows_t).flatten(), dim=0)


def probabilistic_transfer(student: Float[Tensor, "bs ..."], teacher: Float[Tensor, "bt ..."]) -> Float[Tensor, ""]:
    """Compute the KL divergence between the probabilities with which each sample picks a neighbour (PKT).

    Sample i picks j != i with a probability proportional to (cosine + 1) / 2. The loss is KL(teacher || student) of
    these distributions, averaged over the samples; the paper sums. It depends on which samples share a batch.

    Args:
        student: Features of any shape (n, ...).
        teacher: Features of any shape for the same batch.

    Returns:
        Scalar, >= 0, in nats.

    Raises:
        ShapeError: The batches differ, or hold fewer than 3 samples: of two, each has only one to pick.

    Reference:
        Passalis & Tefas, *Learning Deep Representations with Probabilistic Knowledge Transfer*, ECCV 2018,
        section 3. https://arxiv.org/abs/1803.10837
    """
    rows_s, rows_t = sample_rows(student, teacher, loss="probabilistic_transfer", least=3)
    return forward_kl(_log_neighbours(rows_s), _log_neighbours(rows_t), dim=1).mean()


def _log_neighbours(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """Return, in row i, the log probabilities with which sample i picks the others; minus infinity for itself."""
    directions = unit(rows, dim=1)
    kernel = ((inner_products(directions, directions) + 1) / 2).clamp_min(_LEAST_KERNEL)
    itself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    return kernel.log().masked_fill(itself, -torch.inf).log_softmax(1)
