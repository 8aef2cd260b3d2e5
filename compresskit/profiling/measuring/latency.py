"""Latency of real runs: warmed up, repeated, and several models in turn so that all meet the same conditions."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median, quantiles, stdev
from time import perf_counter

import torch
from torch import nn

from compresskit.nested import held_tensors, wait_for_device
from compresskit.profiling.counting.copies import copy_to, guard
from compresskit.profiling.counting.model_call import ModelCall
from compresskit.profiling.measuring.machine import Machine, check_free_memory, describe_machine

MIN_CALLS = 20
"""Least number of timed calls, unless the time limit ends them."""

MAX_CALLS = 1000
"""Largest number of timed calls."""

MIN_SECONDS = 0.5
"""Least duration of the timed calls of a model, so that fast models are called more often."""

MAX_WARM_UPS = 10
"""Largest number of warm-up calls; three calls within 10 % of each other end the warm-up earlier."""

NOISY = 0.1
"""Coefficient of variation above which figures are called noisy."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of one call."""

    calls: int
    median: float
    minimum: float
    p10: float
    p90: float
    p99: float | None
    """99th percentile; None below 100 calls."""
    mean: float
    interquartile_range: float
    variation: float
    """Coefficient of variation: standard deviation over mean."""
    first: float
    """Duration of the very first call, before the warm-up."""
    device: str
    machine: Machine
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ratio:
    """Speed of a model relative to the first one: how many times faster it is, from calls of both in turn."""

    times: float
    """Median of the ratios of neighbouring calls."""
    low: float
    """Lower end of a 95 % bootstrap interval of the median."""
    high: float
    """Upper end of it."""


@dataclass(frozen=True, slots=True)
class _TimedModel:
    """A copy of a model, its inputs, and the durations of its calls."""

    model: nn.Module
    inputs: ModelCall
    device: torch.device
    milliseconds: list[float] = field(default_factory=list)

    def time_call(self) -> float:
        """Return the milliseconds of one call."""
        wait_for_device(self.device)
        start = perf_counter()
        self.inputs.run(self.model)
        wait_for_device(self.device)
        return 1000 * (perf_counter() - start)

    def output_is_finite(self) -> bool:
        """Run one call, and return whether its output is free of NaN and infinite values."""
        output = held_tensors(self.inputs.run(self.model), objects=True)
        return all(bool(tensor.isfinite().all()) for tensor in output if tensor.is_floating_point())


def measure_latency(
    models: Mapping[str, nn.Module],
    call: ModelCall,
    device: torch.device,
    *,
    needed: Mapping[str, int],
    max_seconds: float = 30.0,
) -> tuple[dict[str, Latency], dict[str, Ratio]]:
    """Time copies of models on the same inputs, call by call in turn: A, B, A, B, so that drift affects all alike.

    Args:
        models: Models by name.
        call: Inputs of all models.
        device: Device of the runs.
        needed: Bytes that a run of each model is expected to take.
        max_seconds: Limit of the timed calls of all models together, even if there are fewer than 20 of each.

    Returns:
        The latency of each model, and the ratio of each but the first.

    Raises:
        DataError: There is not enough free memory.
    """
    check_free_memory("--latency", sum(needed.values()), device)
    with guard(*models.values()), torch.inference_mode():
        timed = {name: _TimedModel(copy_to(model, device), call.to(device), device) for name, model in models.items()}
        first_calls = {name: one.time_call() for name, one in timed.items()}
        finite = {name: one.output_is_finite() for name, one in timed.items()}
        for one in timed.values():
            _warm_up(one, max_seconds=max_seconds / 2)
        _time_in_turn(list(timed.values()), max_seconds)
    machine = describe_machine(device)
    latencies = {name: _latency(one, first_calls[name], machine, finite=finite[name]) for name, one in timed.items()}
    reference, *others = timed
    ratios = {name: _ratio(timed[reference].milliseconds, timed[name].milliseconds) for name in others}
    return latencies, ratios


def _warm_up(one: _TimedModel, *, max_seconds: float) -> None:
    durations: list[float] = []
    for _ in range(MAX_WARM_UPS):
        durations.append(one.time_call())
        steady = len(durations) >= 3 and max(durations[-3:]) <= 1.1 * min(durations[-3:])
        if steady or sum(durations) > 1000 * max_seconds:
            return


def _time_in_turn(models: Sequence[_TimedModel], max_seconds: float) -> None:
    start = perf_counter()
    for rounds in range(1, MAX_CALLS + 1):
        for one in models:
            one.milliseconds.append(one.time_call())
        elapsed = perf_counter() - start
        enough = rounds >= MIN_CALLS and elapsed >= MIN_SECONDS * len(models)
        if enough or elapsed >= max_seconds:
            return


def _latency(one: _TimedModel, first_call: float, machine: Machine, *, finite: bool) -> Latency:
    times = sorted(one.milliseconds)
    mean = fmean(times)
    variation = stdev(times) / mean if len(times) > 1 else 0.0
    return Latency(
        len(times),
        median(times),
        times[0],
        _percentile(times, 10),
        _percentile(times, 90),
        _percentile(times, 99) if len(times) >= 100 else None,
        mean,
        _percentile(times, 75) - _percentile(times, 25),
        variation,
        first_call,
        str(one.device),
        machine,
        tuple(_warnings(len(times), variation, machine, finite=finite)),
    )


def _warnings(calls: int, variation: float, machine: Machine, *, finite: bool) -> list[str]:
    busy = machine.load is not None and machine.load > machine.cores
    return [
        text
        for applies, text in (
            (variation > NOISY, f"noisy: the calls vary by {100 * variation:.0f} %"),
            (busy, f"the machine is busy: load {machine.load} on {machine.cores} cores"),
            (calls < MIN_CALLS, f"only {calls} calls within the time limit"),
            (not finite, "the output holds NaN or infinite values"),
        )
        if applies
    ]


def _ratio(reference: Sequence[float], other: Sequence[float]) -> Ratio:
    ratios = [first / second for first, second in zip(reference, other, strict=True)]
    generator = random.Random(0)
    medians = sorted(median(generator.choices(ratios, k=len(ratios))) for _ in range(1000))
    return Ratio(median(ratios), _percentile(medians, 2.5), _percentile(medians, 97.5))


def _percentile(ordered: Sequence[float], percent: float) -> float:
    """Return a percentile of sorted values, interpolated between two of them."""
    if len(ordered) == 1:
        return ordered[0]
    return quantiles(ordered, n=1000, method="inclusive")[round(10 * percent) - 1]
