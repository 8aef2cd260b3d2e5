"""Relational distillation: distances and angles between the samples of a batch, at any scale of the features."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from compresskit.losses.checks import sample_rows
from compresskit.losses.vectors import centre, divide_by_largest, inner_products


def relational_distance(student: Float[Tensor, "bs ..."], teacher: Float[Tensor, "bt ..."]) -> Float[Tensor, ""]:
    """Compute the Huber distance between the two batches' distances from sample to sample (RKD-D).

    Euclidean distances are divided by their mean over all pairs of the batch, then compared: half the square below a
    difference of 1, linear beyond. It depends on which samples share a batch.

    Args:
        student: Features of any shape (n, ...).
        teacher: Features of any shape for the same batch.

    Returns:
        Mean over pairs of distinct samples. Scalar, >= 0.

    Raises:
        ShapeError: The batches differ, or hold fewer than 3 samples: two are always the mean distance apart.

    Reference:
        Park, Kim, Lu & Cho, *Relational Knowledge Distillation*, CVPR 2019, section 3.2.1.
        https://arxiv.org/abs/1904.05068
    """
    rows_s, rows_t = sample_rows(student, teacher, loss="relational_distance", least=3)
    distances_s, distances_t = (_over_mean(_distances(_products(rows))) for rows in (rows_s, rows_t))
    return _mean_of_distinct(F.smooth_l1_loss(distances_s, distances_t, reduction="none"), order=2)


def relational_angle(student: Float[Tensor, "bs ..."], teacher: Float[Tensor, "bt ..."]) -> Float[Tensor, ""]:
    """Compute the Huber distance between the two batches' angles in triplets of samples (RKD-A).

    It compares the cosine of the angle at j between the directions to i and to k: half the square of a difference up to
    1, linear beyond. Memory grows with the third power of the batch. It depends on which samples share a batch.

    Args:
        student: Features of any shape (n, ...).
        teacher: Features of any shape for the same batch.

    Returns:
        Mean over triplets of distinct samples. Scalar, >= 0. Where two samples coincide, the cosine counts as 0.

    Raises:
        ShapeError: The batches differ, or hold fewer than 3 samples.

    Reference:
        Park, Kim, Lu & Cho, *Relational Knowledge Distillation*, CVPR 2019, section 3.2.2.
        https://arxiv.org/abs/1904.05068
    """
    rows_s, rows_t = sample_rows(student, teacher, loss="relational_angle", least=3)
    huber = F.smooth_l1_loss(_cosines(_products(rows_s)), _cosines(_products(rows_t)), reduction="none")
    same = torch.eye(len(huber), dtype=torch.bool, device=huber.device)
    return _mean_of_distinct(huber.masked_fill(same[:, :, None], 0.0), order=3)


def _products(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """Return the inner products of the centred samples, n^2 numbers that determine all distances and angles."""
    rows = divide_by_largest(centre(rows, dim=0))
    return inner_products(rows, rows)


def _distances(products: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """Return the distances between samples; exactly 0, without gradient, where two coincide up to rounding."""
    squares = products.diagonal()
    both = squares[:, None] + squares
    distances = both - 2 * products
    distinct = distances > 16 * torch.finfo(products.dtype).eps * both
    return torch.where(distinct, distances, 1.0).sqrt() * distinct


def _over_mean(distances: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    mean = _mean_of_distinct(distances, order=2)
    return distances / torch.where(mean > 0, mean, 1.0)


def _cosines(products: Float[Tensor, "n n"]) -> Float[Tensor, "n n n"]:
    """Return, at [i, k, j], the cosine of the angle at j between i and k; 0 where j coincides with one of them."""
    distances = _distances(products)
    inverse = torch.where(distances > 0, 1 / torch.where(distances > 0, distances, 1.0), 0.0)
    to_i, to_k = products[:, None, :], products[None, :, :]
    between = products[:, :, None] - to_i - to_k + products.diagonal()
    return between * inverse[:, None, :] * inverse[None, :, :]


def _mean_of_distinct(values: Float[Tensor, "n ..."], *, order: int) -> Float[Tensor, ""]:
    """Return the mean over pairs or triplets of distinct samples; the values of all others must be 0."""
    size = len(values)
    return values.sum() / (size * (size - 1) * (size - 2 if order == 3 else 1))
