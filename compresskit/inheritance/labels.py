"""The channel of each element of a tensor: integers in the same shape, which are rearranged like the tensor."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Label:
    """Numbers of channels, in the shape of the tensor that they belong to. Dimensions without meaning have stride 0."""

    ids: Tensor
    weight: bool = False
    """True for a parameter and what is only rearranged of it."""
    dim: int | None = None
    """The dimension of a parameter that the numbers belong to, which tells axes of one channel apart."""

    @property
    def varying(self) -> set[int]:
        """The dimensions along which the channel changes."""
        return {d for d, size in enumerate(self.ids.shape) if size > 1 and self.ids.stride(d) != 0}


def along(numbers: Tensor, dim: int, shape: torch.Size) -> Tensor:
    """Return numbers along one dimension of a shape, constant along all others."""
    view = [1] * len(shape)
    view[dim] = len(numbers)
    return numbers.reshape(view).expand(shape)


def compact(ids: Tensor) -> Tensor:
    """Return the same numbers with stride 0 along each dimension in which they are constant."""
    for dim, size in enumerate(ids.shape):
        if size > 1 and ids.stride(dim) != 0:
            first = ids.narrow(dim, 0, 1)
            if bool((core(ids) == core(first)).all()):
                ids = first.expand(ids.shape)
    return ids


def core(ids: Tensor) -> Tensor:
    """Return the numbers without repetitions: size 1 along every dimension of stride 0."""
    for dim, size in enumerate(ids.shape):
        if size > 1 and ids.stride(dim) == 0:
            ids = ids.narrow(dim, 0, 1)
    return ids


def pairs(one: Tensor, other: Tensor) -> list[tuple[int, int]]:
    """Return the different pairs of numbers at equal places of two tensors that broadcast."""
    a, b = torch.broadcast_tensors(core(one), core(other))
    both = torch.stack([a.flatten(), b.flatten()], dim=1)
    return [(int(x), int(y)) for x, y in torch.unique(both, dim=0).tolist() if x != y]


def covering(labels: Sequence[Label], dim: int) -> list[Label]:
    """Return the labels of the channels along a dimension; those of a single channel only where there are no others."""
    varying = [label for label in labels if dim in label.varying]
    return varying or [label for label in labels if not label.varying and label.dim in (None, dim)]
