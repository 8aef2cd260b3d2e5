"""Latency of real runs: warmed up, repeated, and several models in turn so that they see the same machine."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median, quantiles, stdev
from time import perf_counter

import torch
from torch import nn

from compresskit.profiling.counting.copies import real_copy, untouched
from compresskit.profiling.counting.model_call import Call
from compresskit.profiling.counting.tensors import OBJECTS, tensors_in
from compresskit.profiling.measuring.free_memory import check_room
from compresskit.profiling.measuring.machine import Machine, machine

LEAST_CALLS = 20
"""Timed calls, unless the time limit ends them."""


MOST_CALLS = 1000


LEAST_SECONDS = 0.5
"""Fast models are called more often, for so long."""


WARM_UPS = 10
"""At most; three calls within 10 % of each other end the warm-up before."""


NOISY = 0.1
"""Coefficient of variation from which figures are called noisy."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of one call."""

    calls: int
    median: float
    minimum: float
    p10: float
    p90: float
    p99: float | None
    """None below 100 calls."""
    mean: float
    interquartile_range: float
    variation: float
    """Coefficient of variation: standard deviation over mean."""
    first: float
    """The very first call, before the warm-up."""
    device: str
    machine: Machine
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times faster than the first model, by calls of both in turn."""

    times: float
    """Median of the ratios of neighbouring calls."""
    low: float
    high: float
    """A 95 % bootstrap interval of it."""


@dataclass(frozen=True, slots=True)
class _Timed:
    """A copy that is being timed."""

    model: nn.Module
    call: Call
    device: torch.device
    milliseconds: list[float] = field(default_factory=list)

    def run(self) -> float:
        """Milliseconds of one call."""
        _wait(self.device)
        start = perf_counter()
        self.model(*self.call.args, **self.call.kwargs)
        _wait(self.device)
        return 1000 * (perf_counter() - start)


def latency(
    models: Mapping[str, nn.Module],
    call: Call,
    device: torch.device | str,
    *,
    needed: Mapping[str, int],
    max_seconds: float = 30.0,
) -> tuple[dict[str, Latency], dict[str, Ratio]]:
    """Time copies of models on the same inputs, call by call in turn: A, B, A, B, so that drift hits all alike.

    Args:
        models: By name.
        call: Inputs of all.
        device: Where to run.
        needed: Bytes that a run of each is expected to take.
        max_seconds: Of timed calls, all models together; they end even if there are fewer than 20 each.

    Returns:
        The latency of each model, and for each but the first how many times faster it is.

    Raises:
        DataError: There is not enough free memory.
    """
    place = torch.device(device)
    check_room("--latency", sum(needed.values()), place)
    with untouched(*models.values()), torch.inference_mode():
        timed = {name: _Timed(real_copy(model, place), call.on(place), place) for name, model in models.items()}
        first = {name: one.run() for name, one in timed.items()}
        finite = {name: _is_finite(one) for name, one in timed.items()}
        for one in timed.values():
            _warm_up(one, first_limit=max_seconds / 2)
        _time(list(timed.values()), max_seconds)
    here = machine(place)
    found = {name: _latency(one, first[name], here, finite=finite[name]) for name, one in timed.items()}
    reference, *others = timed
    return found, {name: _ratio(timed[reference].milliseconds, timed[name].milliseconds) for name in others}


def _warm_up(one: _Timed, *, first_limit: float) -> None:
    recent: list[float] = []
    for _ in range(WARM_UPS):
        recent = [*recent, one.run()]
        steady = len(recent) >= 3 and max(recent[-3:]) <= 1.1 * min(recent[-3:])
        if steady or sum(recent) > 1000 * first_limit:
            return


def _time(all_timed: Sequence[_Timed], max_seconds: float) -> None:
    start = perf_counter()
    for round_number in range(1, MOST_CALLS + 1):
        for one in all_timed:
            one.milliseconds.append(one.run())
        elapsed = perf_counter() - start
        enough = round_number >= LEAST_CALLS and elapsed >= LEAST_SECONDS * len(all_timed)
        if enough or elapsed >= max_seconds:
            return


def _latency(one: _Timed, first: float, here: Machine, *, finite: bool) -> Latency:
    times = sorted(one.milliseconds)
    mean = fmean(times)
    variation = stdev(times) / mean if len(times) > 1 else 0.0
    p25, p75 = _percentile(times, 25), _percentile(times, 75)
    return Latency(
        len(times),
        median(times),
        times[0],
        _percentile(times, 10),
        _percentile(times, 90),
        _percentile(times, 99) if len(times) >= 100 else None,
        mean,
        p75 - p25,
        variation,
        first,
        str(one.device),
        here,
        tuple(_warnings(len(times), variation, here, finite=finite)),
    )


def _warnings(calls: int, variation: float, here: Machine, *, finite: bool) -> list[str]:
    return [
        text
        for holds, text in (
            (variation > NOISY, f"noisy: the calls vary by {100 * variation:.0f} %"),
            (
                here.load is not None and here.load > here.cores,
                f"the machine is busy: load {here.load} on {here.cores} cores",
            ),
            (calls < LEAST_CALLS, f"only {calls} calls within the time limit"),
            (not finite, "the output holds NaN or infinite values"),
        )
        if holds
    ]


def _ratio(reference: Sequence[float], other: Sequence[float]) -> Ratio:
    ratios = [mine / theirs for mine, theirs in zip(reference, other, strict=True)]
    draw = random.Random(0)
    medians = sorted(median(draw.choices(ratios, k=len(ratios))) for _ in range(1000))
    return Ratio(median(ratios), _percentile(medians, 2.5), _percentile(medians, 97.5))


def _percentile(ordered: Sequence[float], percent: float) -> float:
    """Of sorted values, between two of them where it falls there."""
    if len(ordered) == 1:
        return ordered[0]
    return quantiles(ordered, n=1000, method="inclusive")[round(10 * percent) - 1]


def _is_finite(one: _Timed) -> bool:
    output = tensors_in(one.model(*one.call.args, **one.call.kwargs), objects=OBJECTS)
    return all(bool(tensor.isfinite().all()) for tensor in output if tensor.is_floating_point())


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
