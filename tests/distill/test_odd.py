"""Odd models: what they do to themselves or to their inputs must neither go wrong in silence nor fail in riddles."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from compresskit import DataError, Match, ProgressiveDistiller, RecipeError, Stage

X = torch.randn(4, 3)


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first, self.head = nn.Linear(3, width), nn.Linear(width, 2)

    def forward(self, x):
        return self.head(self.first(x))


def losses(teacher, student, *matches, inputs=X, **options):
    stage = Stage("s", matches=matches, steps=3, optimizer={"_target_": "torch.optim.SGD", "lr": 0.1})
    history = ProgressiveDistiller(teacher, student, [stage], **options).fit([inputs]).history
    return [sum(term["value"] for term in record["terms"].values()) for record in history]


def test_a_teacher_that_shares_a_norm_with_its_student_is_refused():
    norm = nn.BatchNorm1d(2, affine=False)
    with pytest.raises(RecipeError, match="shares parameters or buffers with the student"):
        losses(nn.Sequential(nn.Linear(3, 2), norm), nn.Sequential(nn.Linear(3, 2), norm), Match("."))


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_fit_trains_also_where_gradients_are_off(context):
    teacher, student = Net(4), Net(3)
    with context():
        found = losses(teacher, student, Match("."))
    assert found[2] < found[0]


def test_a_plan_of_a_loader_says_that_it_wants_a_batch():
    distiller = ProgressiveDistiller(Net(4), Net(4), [Stage("s", matches=[Match(".")], steps=1)])
    with pytest.raises(DataError, match=r"one batch is wanted, got a DataLoader; if it gives batches: next\(iter"):
        distiller.plan(DataLoader([X]))
