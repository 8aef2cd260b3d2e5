"""Copies of a model, with values and without."""

import pytest
import torch
from torch import nn

from compresskit import profile
from compresskit.errors import DataError
from compresskit.profiling.counting.copies import copy_to, copy_without_values


def test_a_copy_without_values_keeps_ties():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    model.constants = [torch.ones(3)]
    copy = copy_without_values(model)
    assert copy[0].weight is copy[1].weight
    assert all(tensor.is_meta for tensor in [*copy.parameters(), *copy.constants])
    assert not model[0].weight.is_meta


def test_results_of_autograd_can_be_copied():
    model = nn.Linear(2, 2)
    model.doubled = model.weight * 2
    assert torch.equal(copy_to(model, "cpu").doubled, model.weight * 2)


def test_a_model_that_cannot_be_copied_is_refused():
    model = nn.Linear(2, 2)
    model.generator = (number for number in range(3))
    with pytest.raises(DataError, match="Linear cannot be copied, and profiling works on a copy"):
        profile(model, torch.rand(2))
