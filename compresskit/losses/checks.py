"""Checks of a loss's arguments: tensors of one shape or one batch, in float32 or better, and options within bounds."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from compresskit.errors import RecipeError, ShapeError


def at_least_float32(tensor: Shaped[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Return the tensor in float32 or better, because squares, logs and powers leave the range of half precision.

    Raises:
        ShapeError: The tensor is complex, and would lose its imaginary part.
    """
    if tensor.is_complex():
        raise ShapeError("a complex tensor cannot be compared as it is; tap or compute its real view or its magnitude")
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def same_shape(
    student: Shaped[Tensor, "*s"], other: Shaped[Tensor, "*t"], *, loss: str
) -> tuple[Float[Tensor, "*s"], Float[Tensor, "*s"]]:
    """Return both tensors in float32 or better if their shapes are equal: broadcasting would compare wrong elements.

    Raises:
        ShapeError: The shapes differ; the message starts with the name of the loss.
    """
    if student.shape != other.shape:
        raise ShapeError(f"{loss}: shapes must be equal, got {tuple(student.shape)} and {tuple(other.shape)}")
    return at_least_float32(student), at_least_float32(other)


def same_size_images(
    student: Shaped[Tensor, "*s"], other: Shaped[Tensor, "*t"], *, loss: str, least: int
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]:
    """Return both tensors in float32 or better if they are images of one size.

    Raises:
        ShapeError: The shapes differ, are not (n, c, h, w), or a side is below `least` pixels.
    """
    student, other = same_shape(student, other, loss=loss)
    if student.ndim != 4 or min(student.shape[2:]) < least:
        raise ShapeError(
            f"{loss}: it needs images (n, c, h, w) of at least {least} x {least} pixels, got {tuple(student.shape)}"
        )
    return student, other


def sample_rows(
    student: Shaped[Tensor, "bs ..."], teacher: Shaped[Tensor, "bt ..."], *, loss: str, least: int
) -> tuple[Float[Tensor, "bs ds"], Float[Tensor, "bt dt"]]:
    """Return both batches in float32 or better, a row for each sample; the two networks' rows may differ in length.

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
    return (
        at_least_float32(student).reshape(len(student), -1),
        at_least_float32(teacher).reshape(len(teacher), -1),
    )


def channel_axis(tensor: Shaped[Tensor, "*any"]) -> int:
    """Return the axis of the channels: the last in vectors (n, c) and tokens (n, length, c), else the second."""
    return 1 if tensor.ndim >= 4 else tensor.ndim - 1


def class_axis(shape: Sequence[int], dim: int | None, *, loss: str) -> int:
    """Return the axis of the classes of logits: `dim`, or what the number of dimensions says where that is None.

    Classes are last in (n, c) and (n, length, c), and second in maps (n, c, h, w).

    Raises:
        ShapeError: There is no such dimension, or these logits do not say it and neither does `dim`.
    """
    text, count = tuple(shape), len(shape)
    if dim is not None:
        if not -count <= dim < count:
            raise ShapeError(f"{loss}: no dimension {dim} in logits of shape {text}")
        return dim % count
    if count < 2:
        raise ShapeError(f"{loss}: no dimension 1 in logits of shape {text}; they are (n, c), (n, length, c) or a map")
    if count > 4:
        raise ShapeError(
            f"{loss}: in logits of shape {text} the classes may be in any dimension; write it, as dim=1 or dim=-1"
        )
    return 1 if count == 4 else count - 1


def check_above_zero(value: float | int, *, option: str) -> None:
    """Raise a RecipeError unless `value` is above 0; the message names `option`, such as "kl: temperature"."""
    if not value > 0:
        raise RecipeError(f"{option} must be above 0, got {value}")


def check_not_negative(value: float | int, *, option: str) -> None:
    """Raise a RecipeError unless `value` is at least 0; the message names `option`, such as "dkd: alpha"."""
    if not value >= 0:
        raise RecipeError(f"{option} must be at least 0, got {value}")
