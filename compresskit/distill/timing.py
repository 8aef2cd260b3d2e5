"""Time of a run: seconds by phase, and on request a profiler's trace of a few steps, for ui.perfetto.dev."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerAction, ProfilerActivity, profile, record_function

PHASES = ("load", "teacher", "student", "losses", "backward", "optimizer")


class Clock:
    """Sums of the time between entering and leaving each phase.

    A GPU works on while Python goes ahead, so there a phase ends when its work is done only while `profiling`.
    """

    def __init__(self) -> None:
        self.profiling = False
        """True while phases wait for the GPU and are marked in a profiler's trace."""
        self.seconds: dict[str, float] = dict.fromkeys(PHASES, 0.0)
        self.uncounted = 0.0
        """Seconds that a profiler took for itself."""
        self._phases = {name: _Phase(self, name) for name in PHASES}

    def phase(self, name: str) -> "_Phase":
        """Return the block of a phase: `with clock.phase("backward"):`. Phases do not nest."""
        return self._phases[name]

    def shares(self, total: float) -> dict[str, float]:
        """Return the share of each phase in `total` seconds, and the rest as `other`. They add up to 1."""
        total = max(total - self.uncounted, sum(self.seconds.values()), 1e-9)
        shares = {name: seconds / total for name, seconds in self.seconds.items()}
        return {**shares, "other": max(0.0, 1.0 - sum(shares.values()))}

    @contextmanager
    def not_counting(self) -> Iterator[None]:
        """Leave the time of the block out of all shares."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.uncounted += time.perf_counter() - began


def shares_text(shares: Mapping[str, float]) -> str:
    """Return shares that add up to 1 as percentages that add up to 100: those are rounded up that lose the most."""
    percent = {name: math.floor(100 * share) for name, share in shares.items()}
    by_loss = sorted(shares, key=lambda name: percent[name] - 100 * shares[name])
    for name in by_loss[: 100 - sum(percent.values())]:
        percent[name] += 1
    return ", ".join(f"{name} {value}%" for name, value in percent.items())


class _Phase:
    """One phase, built once and entered in every step."""

    __slots__ = ("_began", "_clock", "_mark", "_name")

    def __init__(self, clock: Clock, name: str) -> None:
        self._clock, self._name = clock, name
        self._began = 0.0
        self._mark: Any = None

    def __enter__(self) -> None:
        if self._clock.profiling:
            self._mark = record_function(self._name)
            self._mark.__enter__()
        self._began = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        if self._mark is not None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self._mark.__exit__(*error)
            self._mark = None
        self._clock.seconds[self._name] += time.perf_counter() - self._began


PROFILED_STEPS = 3
"""Number of profiled steps, after two that are not if there are so many: the first are not like the others."""


@contextmanager
def profile_steps(path: Path | None, clock: Clock, steps: int) -> Iterator[Callable[[], None]]:
    """Profile some steps inside the block, with the clock's phases marked, and write the trace to `path`.

    Args:
        path: File that ends in `.json.gz`; None profiles nothing.
        clock: Clock that does not count what the profiler takes for itself.
        steps: Number of steps inside the block.

    Yields:
        A function to call after each step.
    """
    if path is None or steps < 1:
        yield lambda: None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    profiler = profile(
        activities=activities,
        schedule=_schedule(steps),
        on_trace_ready=lambda finished: finished.export_chrome_trace(str(path)),
    )

    def after_step() -> None:
        with clock.not_counting():
            profiler.step()

    clock.profiling = True
    with clock.not_counting():
        profiler.start()
    try:
        yield after_step
    finally:
        with clock.not_counting():
            profiler.stop()
        clock.profiling = False


def _schedule(steps: int) -> Callable[[int], ProfilerAction]:
    """Return the profiler's action in each of `steps` steps."""
    first = max(0, min(2, steps - PROFILED_STEPS))
    last = min(first + PROFILED_STEPS, steps) - 1
    actions = {first - 1: ProfilerAction.WARMUP, last: ProfilerAction.RECORD_AND_SAVE}
    actions |= dict.fromkeys(range(first, last), ProfilerAction.RECORD)
    return lambda step: actions.get(step, ProfilerAction.NONE)
