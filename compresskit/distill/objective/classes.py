"""Losses on logits: both sides have the same classes, by a choice among the teacher's and never by an adapter.

A linear layer between logits would learn the student's part of the task in the student's place: the loss falls, and the
student's own predictions stay as they are.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compresskit.distill.objective.adapters import Adapter
from compresskit.distill.spec.classes import ClassIndex, slice_text
from compresskit.errors import ShapeError
from compresskit.losses.checks import class_axis
from compresskit.losses.entry import Entry


class ChosenClasses(Adapter):
    """An adapter between logits of which the teacher has more classes, or has them in another order.

    Args:
        inner: Adapter between the student's logits and the chosen ones.
        classes: The teacher's classes that are compared, in the student's order.
        axis: Dimension of the classes in the teacher's logits.
    """

    def __init__(self, inner: Adapter, classes: ClassIndex, axis: int) -> None:
        super().__init__(inner.module)
        self._inner, self._classes = inner, classes
        self._index = (slice(None),) * axis + (classes,)

    def __call__(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Return both tensors, with the same classes."""
        return self._inner(student, teacher[self._index])

    def __str__(self) -> str:
        classes = self._classes
        chosen = f"classes {slice_text(classes)}" if isinstance(classes, slice) else f"{len(classes)} chosen classes"
        return " + ".join(filter(None, (chosen, str(self._inner))))


def chosen_shape(
    entry: Entry, shape: torch.Size, classes: ClassIndex | None, options: Mapping[str, Any]
) -> tuple[torch.Size, int]:
    """Return the shape of a teacher's logits after the choice of classes, and the dimension of the classes.

    Raises:
        ShapeError: That dimension is not known, or the teacher has no such class.
    """
    axis = class_axis(shape, options.get("dim"), loss=entry.name)
    if classes is None:
        return shape, axis
    count = len(range(shape[axis])[classes]) if isinstance(classes, slice) else len(classes)
    if isinstance(classes, list) and not all(-shape[axis] <= index < shape[axis] for index in classes):
        raise ShapeError(f"classes: the teacher has classes 0 to {shape[axis] - 1}, got {max(classes, key=abs)}")
    return torch.Size([*shape[:axis], count, *shape[axis + 1 :]]), axis


def check_same_classes(entry: Entry, student: torch.Size, teacher: torch.Size, options: Mapping[str, Any]) -> None:
    """Check that logits have as many classes on both sides.

    Raises:
        ShapeError: They have not; the message has the ways out.
    """
    of_student, of_teacher = (
        shape[class_axis(shape, options.get("dim"), loss=entry.name)] for shape in (student, teacher)
    )
    if of_student != of_teacher:
        raise ShapeError(
            f"student {tuple(student)} and teacher {tuple(teacher)}: {entry.name} compares logits of the same classes, "
            f"and these have {of_student} and {of_teacher}; an adapter would learn in the student's place.\n"
            f"Choose the teacher's classes that the student has, as in classes=slice({of_student}), or give an adapter "
            "of your own"
        )
