"""The plan and the look-ahead: mistakes in any stage are reported before training, and nothing changes."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from compresskit import CompressKitError, DataError, Match, ProgressiveDistiller, RecipeError, Stage, TapError, Task


@pytest.fixture
def vectors():
    """One batch of vectors and labels."""
    return [(torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))]


def test_a_plan_changes_nothing_and_names_the_parameters_that_no_loss_reaches(
    teacher, student, batches, state, changed, marks
):
    before, marks_before = state(student), (marks(teacher), marks(student))
    plan = ProgressiveDistiller(teacher, student, [Stage("s", matches=[Match("1")], steps=2)]).plan(batches[0])
    assert changed(before, student) == set()
    assert (marks(teacher), marks(student)) == marks_before
    assert plan.stages[0].unreached == ("3.bias", "3.weight", "8.bias", "8.weight")
    assert plan.stages[0].adapter_elements == 4 * 6 + 6
    assert "1x1 conv 4→6" in str(plan)


def test_a_loader_is_no_batch_to_plan_on():
    distiller = ProgressiveDistiller(nn.Linear(3, 2), nn.Linear(3, 2), [Stage("s", matches=[Match(".")], steps=1)])
    with pytest.raises(DataError, match=r"one batch is wanted, got a DataLoader; if it gives batches: next\(iter"):
        distiller.plan(DataLoader([torch.randn(4, 3)]))


def test_a_run_on_a_planned_batch_is_traced_only_once(vectors):
    def teacher_forwards(*planned):
        teacher = nn.Linear(3, 3)
        calls = []
        teacher.register_forward_hook(lambda *_: calls.append(1))
        distiller = ProgressiveDistiller(teacher, nn.Linear(3, 3), [Stage("s", matches=[Match(".")], steps=1)])
        for batch in planned:
            distiller.plan(batch)
        before = len(calls)
        distiller.fit(vectors)
        return len(calls) - before

    other = (torch.randn(2, 3), torch.tensor([0, 1]))
    assert teacher_forwards(*vectors) == 1  # to train
    assert teacher_forwards() == teacher_forwards(other) == 2  # and one to trace


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (Stage("s", matches=[Match("9")], steps=1), "has no module '9'"),
        (Stage("s", matches=[Match("1", "7x")], steps=1), "has no module '7x'"),
        (Stage("s", matches=[Match("3")], train=["conv*"], steps=1), "train: 'conv*' matches no parameter"),
        (Stage("s", matches=[Match("3")], freeze=["*"], steps=1), "leaves nothing to train"),
        (
            Stage("s", matches=[Match("3", adapter=None)], steps=1),
            "mse: shapes must be equal, got (6, 4, 4, 4) and (6, 6, 4, 4)",
        ),
        (
            Stage("s", matches=[Match("3", ".")], steps=1),
            "nothing turns a map into a vector; tap a pooled output or give an adapter",
        ),
        (Stage("s", matches=[Match("1")], train=["8.*"], steps=1), "no term reaches any of the parameters"),
        (Stage("s", matches=[Match("1", loss=lambda s, _: s)], steps=1), "a loss must return one number, got shape"),
        (
            Stage("s", tasks=[Task("cross_entropy")], steps=1, optimizer=lambda _: 3),
            "must give a torch Optimizer, got int",
        ),
    ],
)
def test_a_stage_that_cannot_train_is_refused_before_training(
    teacher, student, batches, stage, message, state, changed
):
    before = state(student)
    with pytest.raises(CompressKitError) as caught:
        ProgressiveDistiller(teacher, student, [stage]).fit(batches)
    assert message in str(caught.value)
    assert changed(before, student) == set()


def test_a_match_without_any_teacher_is_refused(student, batches):
    with pytest.raises(RecipeError, match="needs a teacher, and there is none"):
        ProgressiveDistiller(None, student, [Stage("s", matches=[Match("1")], steps=1)]).fit(batches)


class Assisted(nn.Module):
    """A model with a second head that runs in training mode only."""

    def __init__(self):
        super().__init__()
        self.trunk, self.head, self.second = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x):
        x = self.trunk(x)
        if self.training:
            self.second(x)
        return self.head(x)


def test_a_tap_that_is_empty_in_eval_mode_is_refused_before_training_if_there_is_validation_data(vectors):
    student = Assisted()
    before = student.second.weight.clone()
    stage = Stage("s", tasks=[Task("cross_entropy", student="second")], steps=2)
    with pytest.raises(TapError, match=r"'second' captured nothing(.|\n)*This is in eval mode, as for the validation"):
        ProgressiveDistiller(None, student, [stage]).fit(vectors, val_loader=vectors)
    assert torch.equal(student.second.weight, before)
    ProgressiveDistiller(None, student, [stage]).fit(vectors)
    assert not torch.equal(student.second.weight, before)
