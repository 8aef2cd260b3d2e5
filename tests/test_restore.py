import pytest
import torch
from torch import nn

from compresskit import Match, ProgressiveDistiller, RecipeError, Stage
from compresskit.restore import preserve_state

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


class Observer(nn.Module):
    """A model with a buffer that takes its size in the first forward, as the observers of quantization do."""

    def __init__(self, *, in_place):
        super().__init__()
        self.linear, self.in_place = nn.Linear(3, 3), in_place
        self.register_buffer("largest", torch.empty(0))

    def forward(self, x):
        y = self.linear(x)
        seen = y.detach().abs().amax(0)
        if self.in_place:
            self.largest.resize_(seen.shape).copy_(seen)
        else:
            self.largest = seen
        return y

    def _load_from_state_dict(self, state, prefix, *rest):
        self.largest = torch.empty_like(state[f"{prefix}largest"])
        super()._load_from_state_dict(state, prefix, *rest)


@pytest.mark.parametrize("in_place", [True, False])
def test_buffers_that_a_forward_resizes_get_their_former_size_back(in_place):
    model = Observer(in_place=in_place)
    buffer = model.largest
    with preserve_state(model, buffers=True):
        model(torch.randn(2, 3))
        assert model.largest.shape == (3,)
    assert model.largest is buffer
    assert buffer.shape == (0,)


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("options", [{}, {"ema": 0.9}, {"every": 1, "best": "min loss"}], ids=str)
def test_a_student_whose_buffers_take_their_size_in_training_is_trained(in_place, options, tmp_path):
    teacher, student = Observer(in_place=in_place), nn.Sequential(Observer(in_place=in_place))
    stage = Stage("s", matches=[Match(".")], steps=3, **options)
    result = ProgressiveDistiller(teacher, student, [stage], out=tmp_path).fit(BATCHES, BATCHES)
    assert result.student[0].largest.shape == (3,)
    assert teacher.largest.shape == (0,)
    again = nn.Sequential(Observer(in_place=in_place))
    loaded = ProgressiveDistiller(teacher, again, [stage], out=tmp_path).fit(BATCHES, BATCHES)
    assert torch.equal(loaded.student[0].largest, result.student[0].largest)


def test_buffers_of_a_frozen_part_get_their_former_size_back():
    student = nn.Sequential(Observer(in_place=True), nn.Linear(3, 3))
    stage = Stage("s", matches=[Match(".")], train=["1.*"], steps=2)
    ProgressiveDistiller(nn.Linear(3, 3), student, [stage]).fit(BATCHES)
    assert student[0].largest.shape == (0,)
