"""Latencies, with a clock of the test's own."""

import pytest
import torch
from torch import nn

from compresskit import compare
from compresskit.profiling.counting.model_call import ModelCall
from compresskit.profiling.measuring import latency
from compresskit.profiling.measuring.machine import describe_machine

CPU = torch.device("cpu")
ONE = ModelCall.of(torch.ones(1))


class Counting(nn.Module):
    """Module that notes its calls in a list that copies share."""

    def __init__(self, name, calls):
        super().__init__()
        self.name, self.calls = name, calls

    def __deepcopy__(self, memo):
        return Counting(self.name, self.calls)

    def forward(self, x):
        self.calls.append(self.name)
        return x / 0 if self.name == "infinite" else x


def test_models_are_timed_in_turn_after_a_warm_up(monkeypatch):
    clock = iter(range(100_000))
    monkeypatch.setattr(latency, "perf_counter", lambda: 0.001 * next(clock))
    calls = []
    models = {"a": Counting("a", calls), "b": Counting("b", calls)}
    latencies, faster = latency.measure_latency(models, ONE, CPU, needed={"a": 0, "b": 0}, max_seconds=1000)
    first = latencies["a"]
    assert calls[-2 * first.calls :] == ["a", "b"] * first.calls
    assert first.calls >= latency.MIN_CALLS
    # each call lasts one tick of this clock
    assert (first.first, first.median, first.minimum, first.p90, first.variation) == pytest.approx((1, 1, 1, 1, 0))
    assert (faster["b"].times, faster["b"].low, faster["b"].high) == pytest.approx((1, 1, 1))


def test_few_calls_noise_and_infinite_outputs_are_warned_about(monkeypatch):
    ticks = iter(range(100_000))
    monkeypatch.setattr(latency, "perf_counter", lambda: float(next(ticks)) ** 2)
    models = {"m": Counting("infinite", [])}
    latencies, _ = latency.measure_latency(models, ONE, CPU, needed={"m": 0}, max_seconds=9)
    text = "; ".join(latencies["m"].warnings)
    assert f"only {latencies['m'].calls} calls" in text
    assert "NaN or infinite" in text
    assert latencies["m"].p99 is None


def test_percentiles_by_hand():
    assert latency._percentile([1.0, 2.0, 3.0, 4.0, 5.0], 50) == 3
    assert latency._percentile([1.0, 2.0, 3.0], 10) == pytest.approx(1.2)
    assert latency._percentile([7.0], 90) == 7


def test_the_machine_is_described():
    machine = describe_machine(CPU)
    assert (machine.threads, machine.torch) == (torch.get_num_threads(), torch.__version__)
    assert machine.processor


def test_a_comparison_with_latencies_prints_their_ratio():
    models = {"large": nn.Linear(64, 64), "small": nn.Linear(64, 8)}
    comparison = compare(models, torch.rand(4, 64), latency=True, max_seconds=0.5)
    assert set(comparison.faster) == {"small"}
    assert all(one.latency.device == "cpu" for one in comparison.profiles.values())
    text = str(comparison)
    assert "latency, median" in text
    assert "in turn" in text
