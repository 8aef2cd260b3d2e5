"""Vectors without their mean and their length, with values and gradients that stay finite when nothing remains.

A vector without spread or length has no direction: it becomes zeros and gets no gradient, instead of noise or NaN.
"""

import torch
from jaxtyping import Float
from torch import Tensor

_SHORTEST = 1e-12
"""Length below which a vector has no direction."""


def centre(values: Float[Tensor, "*s"], *, dim: int) -> Float[Tensor, "*s"]:
    """Subtract the mean along `dim`; the result is exactly 0 where it would be only rounding."""
    rest = values - values.mean(dim, keepdim=True)
    rounding = 16 * torch.finfo(values.dtype).eps * values.abs().amax(dim, keepdim=True)
    return torch.where(rest.abs().amax(dim, keepdim=True) > rounding, rest, 0.0)


def divide_by_largest(values: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """Divide by the largest magnitude, for losses that do not change with scale: their squares cannot overflow then.

    The divisor is a constant to the gradient. For such a loss the gradient is the same with it or without.
    """
    return values / values.detach().abs().amax().clamp_min(torch.finfo(values.dtype).tiny)


def unit(vectors: Float[Tensor, "*s"], *, dim: int) -> Float[Tensor, "*s"]:
    """Return the vectors along `dim` at length 1, or 0 where they are too short to have a direction."""
    length = torch.linalg.vector_norm(vectors, dim=dim, keepdim=True)
    return torch.where(length > _SHORTEST, vectors / length.clamp_min(_SHORTEST), 0.0)


def cosine_distance(one: Float[Tensor, "*s"], other: Float[Tensor, "*s"], *, dim: int) -> Float[Tensor, "*rest"]:
    """Return one minus the cosine between the vectors along `dim`, from 0 to 2.

    It is computed as half the squared distance of the unit vectors, which is the same, but exactly 0 for equal vectors
    and precise for nearly equal ones. Two vectors without direction are 0 apart; one without and one with are 1/2.
    """
    return (unit(one, dim=dim) - unit(other, dim=dim)).square().sum(dim) / 2


def inner_products(one: Float[Tensor, "*b n d"], other: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b n m"]:
    """Return the inner products of all rows of one with all rows of the other, never in autocast's half precision."""
    with torch.autocast(one.device.type, enabled=False):
        return one @ other.mT
