"""Two tensors made fit to be compared: of one shape or one batch, and in float32 or better."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from compresskit.errors import ShapeError


def wide(tensor: Shaped[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """The tensor in float32 or better, because squares, logs and powers leave the range of half precision.

    Raises:
        ShapeError: It is complex, and would lose its imaginary part.
    """
    if tensor.is_complex():
        raise ShapeError("a complex tensor cannot be compared as it is; tap or compute its real view or its magnitude")
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


def pictures(
    student: Shaped[Tensor, "*s"], other: Shaped[Tensor, "*t"], *, loss: str, least: int
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]:
    """Both images, wide, after a check that they are comparable, and images.

    Raises:
        ShapeError: The shapes differ, are not (n, c, h, w), or a side is below `least` pixels.
    """
    student, other = comparable(student, other, loss=loss)
    if student.ndim != 4 or min(student.shape[2:]) < least:
        raise ShapeError(
            f"{loss}: it needs images (n, c, h, w) of at least {least} x {least} pixels, got {tuple(student.shape)}"
        )
    return student, other


def samples(
    student: Shaped[Tensor, "bs ..."], teacher: Shaped[Tensor, "bt ..."], *, loss: str, least: int
) -> tuple[Float[Tensor, "bs ds"], Float[Tensor, "bt dt"]]:
    """Both batches, wide, a row for each sample; the two networks' rows may differ in length.

    Raises:
        ShapeError: The batches differ, or hold fewer than `least` samples, so that the loss could only be 0.
    """
    if student.shape[0] != teacher.shape[0]:
        raise ShapeError(f"{loss}: the batches must be equal, got {tuple(student.shape)} and {tuple(teacher.shape)}")
    if student.shape[0] < least:
        raise ShapeError(
            f"{loss}: it compares samples with one another and needs a batch of at least {least}, got "
            f"{student.shape[0]}; use larger batches, or drop the last one of an epoch"
        )
    return wide(student).reshape(len(student), -1), wide(teacher).reshape(len(teacher), -1)


def channel_axis(tensor: Shaped[Tensor, "*any"]) -> int:
    """Where the channels are: last in vectors (n, c) and tokens (n, length, c), second in maps and volumes."""
    return 1 if tensor.ndim >= 4 else tensor.ndim - 1


def inner(one: Float[Tensor, "*b n d"], other: Float[Tensor, "*b m d"]) -> Float[Tensor, "*b n m"]:
    """The inner products of all rows of one with all rows of the other, never in autocast's half precision."""
    with torch.autocast(one.device.type, enabled=False):
        return one @ other.mT


def forward_kl(
    log_student: Float[Tensor, "*s"], log_teacher: Float[Tensor, "*s"], *, dim: int
) -> Float[Tensor, "*rest"]:
    """KL(teacher || student) of distributions along `dim`, from their logs; minus infinity is a share of 0."""
    share = log_teacher.exp()
    # 0 log 0 = 0; a teacher's NaN is no share of 0, and has to show
    return torch.where(share == 0, 0.0, share * (log_teacher - log_student)).sum(dim)
