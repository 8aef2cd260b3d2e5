"""Validation terms, and data that cannot serve every stage."""

import pytest
import torch
from torch import nn

from compresskit import DataError, ProgressiveDistiller, RecipeError, Stage, Task

BATCHES = [(torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))]


def test_validation_terms_and_their_weighted_sum_can_decide(vector_student, vector_batches, sgd):
    stage = Stage("s", tasks=[Task("mse", weight=2.0)], steps=4, every=2, best="min loss", optimizer=sgd)
    result = ProgressiveDistiller(None, vector_student, [stage]).fit(vector_batches, val_loader=vector_batches)
    metrics = result.history[1]["metrics"]
    assert metrics["loss"] == pytest.approx(2 * metrics["mse(., target)"])


def test_every_needs_something_to_evaluate_with(vector_student, vector_batches):
    with pytest.raises(RecipeError, match="every=1, but there is nothing to evaluate with"):
        ProgressiveDistiller(None, vector_student, [Stage("s", tasks=[Task("mse")], steps=1, every=1)]).fit(
            vector_batches
        )


@pytest.mark.parametrize(("loader", "message"), [([], "val_loader is empty"), (iter(BATCHES), "walked only once")])
def test_validation_data_that_cannot_serve_every_stage_is_refused_before_training(loader, message):
    student = nn.Linear(3, 3)
    before = student.weight.clone()
    with pytest.raises(DataError, match=message):
        ProgressiveDistiller(None, student, [Stage("s", tasks=[Task("cross_entropy")], steps=1)]).fit(
            BATCHES, val_loader=loader
        )
    assert torch.equal(student.weight, before)
