"""Single figures of one forward."""

import pytest
import torch
from torch import nn

from compresskit.errors import DataError
from compresskit.profiling import count_macs, peak_bytes


def test_a_convolution_is_counted_by_hand():
    # 5 output channels of 6 x 6, each from 3 channels under a 3 x 3 kernel
    assert count_macs(nn.Conv2d(3, 5, 3), [torch.zeros(1, 3, 8, 8)]) == 5 * 6 * 6 * 3 * 9


def test_a_batch_costs_the_sum_of_its_samples_and_activations_are_free():
    model = nn.Sequential(nn.Linear(4, 7), nn.ReLU(), nn.Linear(7, 2))
    assert count_macs(model, [torch.zeros(3, 4)]) == 3 * (4 * 7 + 7 * 2)


def test_counting_does_not_change_the_model():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    count_macs(model, [torch.rand(2, 1, 5, 5)])
    assert model.training
    assert all(module._forward_hooks == {} for module in model.modules())
    assert model.state_dict().keys() == before.keys()
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


class _OnCPU(nn.Module):
    """Module that makes a tensor on the CPU, wherever its weights are."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4, bias=False)

    def forward(self, points):
        return self.layer(points + torch.ones(4, device="cpu"))


def test_a_model_that_names_a_device_is_counted():
    assert count_macs(_OnCPU(), [torch.zeros(1, 4)]) == 16


class _Named(nn.Module):
    def forward(self, *, left, right):
        return left @ right


def test_inputs_may_be_keywords():
    assert count_macs(_Named(), kwargs={"left": torch.zeros(2, 3), "right": torch.zeros(3, 5)}) == 30


def test_peak_bytes_are_those_of_the_tensors_that_are_alive_together():
    model = nn.Sequential(nn.Tanh(), nn.Tanh(), nn.Tanh())  # each result of 4,000 bytes and the one before
    assert peak_bytes(model, torch.empty(1000, device="meta")) == 2 * 4000


def test_peak_bytes_of_a_model_that_reads_values_is_an_error():
    with pytest.raises(DataError, match="needs values"):
        peak_bytes(_Reading(), torch.rand(4))


class _Reading(nn.Module):
    def forward(self, x):
        return x * 2 if x.sum() > 0 else x
