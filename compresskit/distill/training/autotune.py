"""Resolution of `auto`: a short measurement of precision, memory format and compilation. It changes no model."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import median
from typing import Any

import torch

from compresskit.distill.objective.extra_modules import ExtraModules
from compresskit.distill.objective.models import Models
from compresskit.distill.objective.objective import Objective
from compresskit.distill.objective.trace import trace_stages
from compresskit.distill.precision import AUTO, Precision
from compresskit.distill.spec.stage import Stage
from compresskit.errors import CompressKitError
from compresskit.nested import device_of, wait_for_device
from compresskit.randomness import own_randomness
from compresskit.restore import preserve_state

ROUNDS = 5
"""Least number of timed forwards and backwards of each of two candidates, which take turns."""
SECONDS = 0.5
"""Time for more rounds where they are quick: a few alone would be noise."""
_FAILURES = (CompressKitError, RuntimeError, TypeError, ValueError, OSError)
"""Errors of a candidate that cannot run here: ours, a compiler's, or that of an operation without bf16."""
GAIN = 0.95
"""Part of the other's time within which a candidate must stay: what is off stays off unless it helps."""


def choose(
    precision: Precision,
    stage: Stage,
    models: Models,
    batch: tuple[Any, Any],
    note: Callable[[str], None],
) -> Precision:
    """Replace each `auto` by what measures fastest, one after the other: precision, memory format, compilation.

    Args:
        precision: Options with `auto` among them.
        stage: Stage whose forward and backward are timed; a run's last stage reads the most.
        models: The student and its teachers, on their device.
        batch: Inputs and targets, on the device.
        note: Function that receives a line of text for each measurement.
    """
    best = replace(
        precision,
        precision="fp32" if precision.precision == AUTO else precision.precision,
        memory_format="contiguous" if precision.memory_format == AUTO else precision.memory_format,
        compile=False if precision.compile == AUTO else precision.compile,
    )
    device = device_of(models.student)
    for candidate in _candidates(precision, device):
        other = replace(best, **candidate)
        words = ", ".join(f"{name} {value}" for name, value in candidate.items()).lower()
        try:
            other.check(device)
            usual, changed = _compared([best, other], stage, models, batch, device)
        except _FAILURES as error:
            note(f"auto: {words}: not here ({str(error).partition(chr(10))[0]})")
            continue
        faster = changed < GAIN * usual
        note(f"auto: {words}: {usual / changed:.2f} x as fast, {'taken' if faster else 'left off'}")
        best = other if faster else best
    return best


def _candidates(precision: Precision, device: torch.device) -> Iterator[dict[str, Any]]:
    if precision.precision == AUTO:
        yield from ({"precision": name} for name in (("tf32", "bf16") if device.type == "cuda" else ("bf16",)))
    if precision.memory_format == AUTO:
        yield {"memory_format": "channels_last"}
    if precision.compile == AUTO:
        yield {"compile": True}


def _compared(
    candidates: list[Precision], stage: Stage, models: Models, batch: tuple[Any, Any], device: torch.device
) -> list[float]:
    """Return the median seconds of a forward and backward under each candidate."""
    with preserve_state(*models.modules, buffers=True), own_randomness(0):
        runs = [_prepare(candidate, stage, models, batch, device) for candidate in candidates]
        seconds: list[list[float]] = [[] for _ in runs]
        for run in (*runs, *runs):  # these warm up and compile
            run()
        began = time.perf_counter()
        while len(seconds[0]) < ROUNDS or time.perf_counter() - began < SECONDS:
            for run, times in zip(runs, seconds, strict=True):
                times.append(run())
    return [median(times) for times in seconds]


def _prepare(
    precision: Precision, stage: Stage, models: Models, batch: tuple[Any, Any], device: torch.device
) -> Callable[[], float]:
    """Return a function that times one forward and backward."""
    inputs, targets = precision.to_memory_format(batch[0]), batch[1]
    traces = trace_stages([stage], models, inputs)
    steps, compiled = stage.steps or 1, bool(precision.compile)
    objective = Objective(stage, models, ExtraModules(0, device), inputs, traces, steps, compiled=compiled)

    def run() -> float:
        for name in objective.learners:
            models.module(name).train()
        try:
            return timed()
        finally:
            for name in objective.learners:
                models.module(name).zero_grad(set_to_none=True)

    def timed() -> float:
        with precision.applied_to(*models.modules), objective:
            wait_for_device(device)
            began = time.perf_counter()
            with precision.autocast(device.type):
                values = objective.values(inputs, targets)
            objective.total(values).backward()
            wait_for_device(device)
            return time.perf_counter() - began

    return run
