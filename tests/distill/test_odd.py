"""Odd models: what they do to themselves or to their inputs must neither go wrong in silence nor fail in riddles."""

import pytest
import torch
from torch import nn

from compresskit import DataError, Match, ProgressiveDistiller, RecipeError, Stage, TapError

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


class Centres(Net):
    """Writes into its input."""

    def forward(self, x):
        x -= 1.0
        return super().forward(x)


def test_a_model_that_writes_into_its_inputs_spoils_them_neither_for_others_nor_for_later_steps():
    teacher, student, inputs = Centres(4), Centres(4), X.clone()
    with torch.no_grad():
        expected = (student(X.clone()) - teacher(X.clone())).square().mean().item()
    found = losses(teacher, student, Match("."), inputs=inputs)
    assert found[0] == pytest.approx(expected, rel=1e-5)
    assert found[2] < found[1] < found[0]
    assert torch.equal(inputs, X)


def test_inputs_made_in_inference_mode_are_trained_on():
    with torch.inference_mode():
        inputs = X * 2
    found = losses(Net(4), Net(3), Match("."), inputs=inputs)
    assert found[2] < found[0]
