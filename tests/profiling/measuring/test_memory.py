"""Measured memory: against its prediction, and against the memory that is free."""

import pytest
import torch
from torch import nn

from compresskit import profile
from compresskit.errors import CompressKitError
from compresskit.profiling.measuring import machine
from zoo.pynet import PyNET, PyNETQxQ


@pytest.mark.parametrize("side", [64, 128])
@pytest.mark.parametrize("build", [PyNET, PyNETQxQ])
def test_predicted_memory_is_what_the_allocator_reports(build, side):
    report = profile(
        build(width=8, instance_norm_level_1=False), torch.empty(1, 4, side, side, device="meta"), memory=True
    )
    assert report.memory.method == "allocator events"
    assert report.activations.cpu_peak == pytest.approx(report.memory.peak, rel=0.1)


def test_predicted_memory_of_a_convolution_with_channels_last():
    picture = torch.rand(2, 16, 64, 64).contiguous(memory_format=torch.channels_last)
    report = profile(nn.Conv2d(16, 32, 3, padding=1), picture, memory=True)
    assert report.activations.cpu_peak == pytest.approx(report.memory.peak, rel=0.02)


def test_measured_memory_of_a_hand_case():
    model = nn.Sequential(nn.Tanh(), nn.Tanh(), nn.Tanh())  # two results of 4,000 bytes are alive at a time
    assert profile(model, torch.rand(1000), memory=True).memory.peak == 2 * 4000


def test_a_run_that_does_not_fit_into_memory_is_refused_before_it_starts(monkeypatch):
    monkeypatch.setattr(machine, "free_bytes", lambda _: 10_000)
    with pytest.raises(
        CompressKitError, match=r"^--memory needs a real run, which takes about [\d.]+ KiB; 9.77 KiB are free on cpu"
    ):
        profile(nn.Conv2d(3, 64, 3), torch.rand(1, 3, 32, 32), memory=True)
    with pytest.raises(CompressKitError, match=r"^--latency"):
        profile(nn.Conv2d(3, 64, 3), torch.rand(1, 3, 32, 32), latency=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_memory_and_latency_on_cuda_are_those_of_the_device():
    report = profile(nn.Conv2d(3, 8, 3), torch.rand(1, 3, 64, 64), device="cuda", memory=True, latency=True)
    assert report.memory.method == "allocator statistics"
    assert report.memory.peak >= 8 * 62 * 62 * 4
    assert report.latency.device.startswith("cuda")
