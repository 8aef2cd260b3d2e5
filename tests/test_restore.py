import pytest
import torch
from torch import nn

from compresskit import Match, ProgressiveDistiller, RecipeError, Stage

BATCHES = [(torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))]


class Counts(nn.Module):
    """A model that counts its calls in a buffer that each forward replaces, in any mode."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x):
        self.calls = self.calls + 1
        return self.linear(x)


def test_buffers_that_a_forward_replaces_are_restored_in_teacher_and_frozen_student_parts():
    teacher, student = Counts(), nn.Sequential(Counts(), nn.Linear(3, 3))
    distiller = ProgressiveDistiller(teacher, student, [Stage("s", matches=[Match(".")], train=["1.*"], steps=2)])
    buffer = student[0].calls
    distiller.plan(BATCHES[0])
    distiller.fit(BATCHES)
    assert teacher.calls == 0
    assert student[0].calls == 0
    assert student[0].calls is buffer


def test_an_error_names_the_student_that_cannot_be_copied():
    student = nn.Linear(3, 3)
    student.output = student(BATCHES[0][0])  # a tensor with a graph
    stages = [
        Stage("s", matches=[Match(".")], steps=1, ema=0.9),
        Stage("s", matches=[Match(".", "previous:.")], steps=1),
    ]
    for stage, purpose in zip(stages, ("ema", "previous"), strict=True):
        with pytest.raises(RecipeError, match=f"{purpose} needs a copy of Linear, which cannot be copied"):
            ProgressiveDistiller(nn.Linear(3, 3), student, [stage]).fit(BATCHES)
