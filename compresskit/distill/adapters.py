"""Adapters: what makes a student's tensor comparable with a teacher's. They train along and are never exported.

Built from two traced shapes and from what the loss says must agree: a 1x1 convolution or a linear layer where channels
differ, resizing to the teacher's map where height or width differ, nothing where nothing must be done.
"""

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compresskit.errors import ShapeError

_CONVOLUTIONS = {4: nn.Conv2d, 5: nn.Conv3d}


def needs_channels(student: torch.Size, teacher: torch.Size, agree: Collection[str]) -> bool:
    """Whether the student's channels have to be mapped to the teacher's.

    Args:
        student: Shape of the student's tensor: (n, c), tokens (n, length, c), maps (n, c, h, w) or volumes
            (n, c, d, h, w).
        teacher: Shape of the teacher's tensor, of as many dimensions.
        agree: What the loss compares one to one: any of "channels" and "space".

    Raises:
        ShapeError: The two differ in a way that neither channels nor size explain.
    """
    if student == teacher or not agree:
        return False
    if len(student) != len(teacher) or student[0] != teacher[0] or len(student) < 2:
        raise ShapeError(f"no adapter between {tuple(student)} and {tuple(teacher)}: they differ in kind; give one")
    if len(student) == 3 and student[1] != teacher[1] and "space" in agree:
        raise ShapeError(f"no adapter between sequences of length {student[1]} and {teacher[1]}; give one")
    return "channels" in agree and student[channel_axis(student)] != teacher[channel_axis(student)]


def channel_adapter(student: torch.Size, teacher: torch.Size) -> nn.Module:
    """A linear map of the student's channels to the teacher's: a 1x1 convolution for maps and volumes."""
    axis = channel_axis(student)
    if len(student) in _CONVOLUTIONS:
        return _CONVOLUTIONS[len(student)](student[axis], teacher[axis], kernel_size=1)
    return nn.Linear(student[axis], teacher[axis])


def channel_axis(shape: torch.Size) -> int:
    """Where the channels are: last in vectors and tokens, second in maps and volumes."""
    return 1 if len(shape) >= 4 else len(shape) - 1


def resize_to(student: Tensor, teacher: Tensor) -> Tensor:
    """The student's map at the teacher's size, by area averaging down and linear interpolation up.

    Args:
        student: (n, c, h, w) or (n, c, d, h, w); anything else is returned as it is.
        teacher: A tensor of as many dimensions, whose size counts.
    """
    size = list(teacher.shape[2:])
    if student.dim() not in (4, 5) or list(student.shape[2:]) == size:
        return student
    if all(want <= have for want, have in zip(size, student.shape[2:], strict=True)):
        return F.interpolate(student, size=size, mode="area")
    return F.interpolate(student, size=size, mode="bilinear" if student.dim() == 4 else "trilinear")
