"""A profiler's trace of a few steps, for `chrome://tracing` or ui.perfetto.dev."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from compresskit.distill.clock import Clock

STEPS = 3
"""How many are traced, after two that are not: the first steps of a stage are not like the others."""


@contextmanager
def traced(path: Path | None, clock: Clock) -> Iterator[Callable[[], None]]:
    """Inside, some steps are traced with the clock's phases marked, and written to `path`; None traces nothing.

    Yields:
        What to call after each step.
    """
    if path is None:
        yield lambda: None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    few = schedule(wait=1, warmup=1, active=STEPS, repeat=1)
    clock.tracing = True
    try:
        with profile(
            activities=activities, schedule=few, on_trace_ready=lambda done: done.export_chrome_trace(str(path))
        ) as profiler:
            yield profiler.step
    finally:
        clock.tracing = False
