"""The student's initial weights from a teacher, before the first stage."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from compresskit.distill.objective.models import Models
from compresskit.distill.spec.address import STUDENT
from compresskit.distill.spec.inherit import Inherit
from compresskit.errors import DataError, at
from compresskit.inheritance import InheritanceReport, inherit
from compresskit.nested import batch_size, rows_of


def inherit_weights(option: Inherit, models: Models, inputs: Any) -> InheritanceReport:
    """Fill the student with its teacher's weights, and return what was inherited.

    Args:
        option: The teacher, and modules of other names.
        models: The student, which is changed, and its teachers.
        inputs: A batch's inputs; each model takes its view of one sample.

    Raises:
        CompressKitError: See `compresskit.inherit`.
    """
    sample = _first_sample(inputs)
    with at("inherit"):
        return inherit(
            models.teachers[option.teacher],
            models.student,
            inputs=models.view(STUDENT, sample),
            teacher_inputs=models.view(option.teacher, sample),
            names=option.names,
        )


@contextmanager
def inherited(option: Inherit | None, models: Models, inputs: Any) -> Iterator[InheritanceReport | None]:
    """Keep the teacher's weights in the student inside the block, and give the student its own back on exit."""
    if option is None:
        yield None
        return
    own = {name: tensor.clone() for name, tensor in models.student.state_dict().items()}
    try:
        yield inherit_weights(option, models, inputs)
    finally:
        with torch.no_grad():
            models.student.load_state_dict(own)


def _first_sample(inputs: Any) -> Any:
    """Return the first sample of a batch: one is enough to see which channels belong together."""
    try:
        return rows_of(inputs, batch_size(inputs), slice(1))
    except DataError:  # samples that cannot be counted stay together
        return inputs
