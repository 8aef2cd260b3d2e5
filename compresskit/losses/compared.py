"""Two tensors made fit to be compared: of one shape, and in float32 or better."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from compresskit.errors import ShapeError


def wide(tensor: Shaped[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """The tensor in float32 or better, because squares, logs and powers leave the range of half precision."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def comparable(
    student: Shaped[Tensor, "*s"], other: Shaped[Tensor, "*t"], *, loss: str
) -> tuple[Float[Tensor, "*s"], Float[Tensor, "*s"]]:
    """Both tensors, wide, after a check that their shapes are equal: broadcasting would compare the wrong elements.

    Raises:
        ShapeError: The shapes differ; the message starts with the name of the loss.
    """
    if student.shape != other.shape:
        raise ShapeError(f"{loss}: shapes must be equal, got {tuple(student.shape)} and {tuple(other.shape)}")
    return wide(student), wide(other)
