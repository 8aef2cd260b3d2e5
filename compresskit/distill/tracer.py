"""A profiler's trace of a few steps, for `chrome://tracing` or ui.perfetto.dev."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerAction, ProfilerActivity, profile

from compresskit.distill.clock import Clock

STEPS = 3
"""How many are traced, after two that are not if there are so many: the first are not like the others."""


@contextmanager
def traced(path: Path | None, clock: Clock, steps: int) -> Iterator[Callable[[], None]]:
    """Inside, some steps are traced with the clock's phases marked, and written to `path`; None traces nothing.

    Args:
        path: Ends in `.json.gz`.
        clock: Does not count what the profiler takes for itself.
        steps: That will be done inside.

    Yields:
        What to call after each step.
    """
    if path is None or steps < 1:
        yield lambda: None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    profiler = profile(
        activities=activities,
        schedule=_few(steps),
        on_trace_ready=lambda done: done.export_chrome_trace(str(path)),
    )

    def after_step() -> None:
        with clock.not_counting():
            profiler.step()

    clock.tracing = True
    with clock.not_counting():
        profiler.start()
    try:
        yield after_step
    finally:
        with clock.not_counting():
            profiler.stop()
        clock.tracing = False


def _few(steps: int) -> Callable[[int], ProfilerAction]:
    """What the profiler does in each of `steps` steps."""
    first = max(0, min(2, steps - STEPS))
    last = min(first + STEPS, steps) - 1
    actions = {first - 1: ProfilerAction.WARMUP, last: ProfilerAction.RECORD_AND_SAVE}
    actions |= dict.fromkeys(range(first, last), ProfilerAction.RECORD)
    return lambda step: actions.get(step, ProfilerAction.NONE)
