"""Parameters and buffers, tied ones once."""

import torch
from torch import nn
from torch.nn.utils import prune

from compresskit.profiling.counting.parameters import count_parameters


def test_parameters_are_counted_once_however_many_names_they_have():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False), nn.BatchNorm1d(3), nn.Linear(3, 2))
    model[1].weight = model[0].weight
    model[3].requires_grad_(requires_grad=False)
    model[2].half()
    counts = count_parameters(model)
    assert (counts.total, counts.trainable, counts.frozen) == (9 + 6 + 8, 9 + 6, 8)
    assert counts.tied == (("0.weight", "1.weight"),)
    assert counts.dtypes == {"float32": 17 * 4, "float16": 6 * 2}
    assert counts.bytes == 17 * 4 + 6 * 2
    assert (counts.buffers, counts.buffer_bytes) == (3 + 3 + 1, 3 * 2 + 3 * 2 + 8)  # mean, variance, batches seen
    assert counts.zeros == 3  # the norm's bias


def test_masked_parameters_are_zeros_and_meta_parameters_have_none():
    layer = nn.Linear(10, 10, bias=False)
    prune.random_unstructured(layer, "weight", 0.3)
    assert count_parameters(layer).zeros == 30
    assert count_parameters(nn.Linear(2, 2, device="meta")).zeros is None


def test_two_names_of_the_same_storage_are_tied():
    model = nn.Module()
    model.one = nn.Parameter(torch.ones(4))
    model.two = nn.Parameter(model.one.data)
    model.part = nn.Parameter(model.one.data[:2])  # a part of it is a tensor of its own
    assert count_parameters(model).total == 4 + 2
    assert count_parameters(model).tied == (("one", "two"),)
