"""What is fastest here: a short measurement of the choices that were left to `auto`. It changes nothing."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import median
from typing import Any

import torch

from compresskit.distill.objective.extra_modules import ExtraModules
from compresskit.distill.objective.models import Models
from compresskit.distill.objective.objective import Objective
from compresskit.distill.precision import AUTO, Precision
from compresskit.distill.spec.stage import Stage
from compresskit.distill.taps.restore import preserved
from compresskit.errors import CompressKitError
from compresskit.randomness import own_randomness

ROUNDS = 5
"""Timed forwards and backwards of each of two candidates, which take turns: at least so many."""


SECONDS = 0.5
"""More of them for so long, where they are quick: a few alone would be noise."""


_FAILURES = (CompressKitError, RuntimeError, TypeError, ValueError, OSError)
"""What it may come to where a candidate cannot be: ours, a compiler's, or that of an operation without bf16."""


GAIN = 0.95
"""A candidate must be faster than this part of the other's time: what is off stays off unless it helps."""


def settled(
    precision: Precision,
    stage: Stage,
    models: Models,
    batch: tuple[Any, Any],
    note: Callable[[str], None],
) -> Precision:
    """Replace each `auto` by what measured fastest, one after the other: precision, layout, compilation.

    Args:
        precision: With `auto` in it.
        stage: Whose forward and backward are timed; a run's last stage reads the most.
        models: Where they run.
        batch: Inputs and targets, on the device.
        note: Tells what was measured.
    """
    best = replace(
        precision,
        precision="fp32" if precision.precision == AUTO else precision.precision,
        memory_format="contiguous" if precision.memory_format == AUTO else precision.memory_format,
        compile=False if precision.compile == AUTO else precision.compile,
    )
    device = next(models.student.parameters()).device
    for candidate in _candidates(precision, device):
        other = replace(best, **candidate)
        words = ", ".join(f"{name} {value}" for name, value in candidate.items()).lower()
        try:
            other.check(device)
            usual, changed = _compared([best, other], stage, models, batch, device)
        except _FAILURES as error:
            note(f"auto: {words}: not here ({str(error).partition(chr(10))[0]})")
            continue
        taken = changed < GAIN * usual
        note(f"auto: {words}: {usual / changed:.2f} x as fast, {'taken' if taken else 'left off'}")
        best = other if taken else best
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
    """Median seconds of a forward and backward under each."""
    learning = [models.student, *models.teachers.values()]
    with preserved(*learning, buffers=True), own_randomness(0):
        runs = [_prepared(candidate, stage, models, batch, device) for candidate in candidates]
        times: list[list[float]] = [[] for _ in runs]
        for run in (*runs, *runs):  # these warm up and compile
            run()
        began = time.perf_counter()
        while len(times[0]) < ROUNDS or time.perf_counter() - began < SECONDS:
            for run, taken in zip(runs, times, strict=True):
                taken.append(run())
    return [median(taken) for taken in times]


def _prepared(
    precision: Precision, stage: Stage, models: Models, batch: tuple[Any, Any], device: torch.device
) -> Callable[[], float]:
    inputs, targets = precision.to_memory_format(batch[0]), batch[1]
    objective = Objective(
        stage, models, ExtraModules(0, device), inputs, stage.steps or 1, compiled=bool(precision.compile)
    )

    def run() -> float:
        for name in objective.learners:
            models.module(name).train()
        try:
            return timed()
        finally:
            for name in objective.learners:
                models.module(name).zero_grad(set_to_none=True)

    def timed() -> float:
        with precision.applied_to(models.student, *models.teachers.values()), objective:
            _wait(device)
            began = time.perf_counter()
            with precision.autocast(device.type):
                values = objective.values(inputs, targets)
            objective.total(values).backward()
            _wait(device)
            return time.perf_counter() - began

    return run


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
