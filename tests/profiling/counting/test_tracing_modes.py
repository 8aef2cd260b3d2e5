"""Ways to trace a forward: on the meta device, with fake tensors, in a real run."""

import pytest
import torch
from torch import nn

from compresskit import profile
from compresskit.errors import CompressKitError

LARGE = torch.empty(1, 3, 3000, 3000, device="meta")


class Deciding(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 3, 1, bias=False)

    def forward(self, x):
        return self.head(x) if x.mean() > 0 else x


class Stubborn(nn.Module):
    def forward(self, x):
        return (x + torch.ones(3, 1, 1, device="cpu")).flatten(1) @ torch.ones(27_000_000, 1, device="cpu")


def test_a_model_that_names_a_device_is_traced_without_running_it():
    report = profile(Stubborn(), LARGE)
    assert (report.route, report.macs) == ("fake", 27_000_000)
    assert report.activations.peak > 1e8


def test_a_small_model_that_reads_values_runs_for_real():
    assert profile(Deciding(), torch.ones(1, 3, 8, 8)).macs == 64 * 9
    assert profile(Deciding(), torch.zeros(1, 3, 8, 8)).macs == 0  # the inputs keep their values
    assert profile(Deciding(), torch.empty(1, 3, 8, 8, device="meta")).route == "cpu"


def test_a_large_model_that_reads_values_does_not_run_by_default():
    where, advice = r"Deciding needs values at test_tracing_modes.py, line \d+", "4,000,000 pixels.*--device cpu"
    with pytest.raises(CompressKitError, match=rf"(?s){where}, .*item\(\).*{advice}"):
        profile(Deciding(), LARGE)
    with pytest.raises(CompressKitError, match="needs values"):
        profile(Deciding(), torch.ones(1, 3, 8, 8), device="meta")


def test_lazy_modules_can_be_initialized():
    model = nn.Sequential(nn.LazyLinear(3), nn.ReLU())
    report = profile(model, torch.rand(2, 5), materialize=True)
    assert (report.params, report.macs) == (18, 2 * 15)
    assert isinstance(model[0], nn.LazyLinear)
    with pytest.raises(CompressKitError, match=r"^--materialize: the forward fails: "):
        profile(nn.Sequential(nn.LazyLinear(3), nn.Linear(4, 4)), torch.rand(2, 5), materialize=True)


def test_batch_norms_run_in_eval_mode_even_if_training_mode_would_fail():
    model = nn.Sequential(nn.BatchNorm1d(3))
    assert model.training
    assert profile(model, torch.rand(1, 3)).elementwise == 6


def test_real_runs_need_a_device_and_values():
    with pytest.raises(CompressKitError, match="need real runs, and --device meta forbids them"):
        profile(nn.Linear(2, 2), torch.rand(2), latency=True, device="meta")
    with pytest.raises(CompressKitError, match=r"the model's weights have no values"):
        profile(nn.Linear(2, 2, device="meta"), torch.rand(2), memory=True)
    with pytest.raises(CompressKitError, match="--device nonsense"):
        profile(nn.Linear(2, 2), torch.rand(2), device="nonsense")
