"""Averaged weights."""

import copy

import pytest
import torch
from torch import nn

from compresskit import ProgressiveDistiller, Stage, Task
from compresskit.distill.training.ema import moving_average


def test_the_average_follows_its_formula():
    model = nn.Linear(1, 1, bias=False)
    average = moving_average(model, decay=0.25)
    expected = None
    for number, value in enumerate([1.0, 5.0, 3.0, 8.0]):
        nn.init.constant_(model.weight, value)
        average.update_parameters(model)
        decay = min(0.25, (1 + number) / (10 + number))
        expected = value if expected is None else decay * expected + (1 - decay) * value
        assert average.module.weight.item() == pytest.approx(expected)


def test_a_run_with_an_average_returns_a_copy_and_trains_the_student_as_without(vector_student, vector_batches, sgd):
    plain = copy.deepcopy(vector_student)
    evaluated = []
    stage = {"tasks": [Task("mse")], "steps": 6, "optimizer": sgd}
    ProgressiveDistiller(None, plain, [Stage("s", **stage)]).fit(vector_batches)
    result = ProgressiveDistiller(None, vector_student, [Stage("s", **stage, ema=0.9)]).fit(
        vector_batches, evaluate=lambda model: evaluated.append(model[0].weight.clone()) or {}
    )
    assert result.student is not vector_student
    assert torch.equal(vector_student[0].weight, plain[0].weight)
    assert not torch.equal(result.student[0].weight, vector_student[0].weight)
    assert torch.equal(result.student[1].running_mean, vector_student[1].running_mean)
    assert torch.equal(evaluated[0], result.student[0].weight)


def test_the_best_weights_of_an_average_are_restored_with_their_buffers(vector_student, vector_batches, sgd):
    stage = Stage("s", tasks=[Task("mse")], steps=6, every=2, best="max loss", ema=0.5, optimizer=sgd)
    result = ProgressiveDistiller(None, vector_student, [stage]).fit(vector_batches, val_loader=vector_batches)
    losses = [record["metrics"]["loss"] for record in result.history if "metrics" in record]
    assert result.stages[0].validation["loss"] == pytest.approx(max(losses))
