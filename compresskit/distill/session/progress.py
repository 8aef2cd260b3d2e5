"""Progress for people: a bar on a terminal, a plain line now and then elsewhere. Always on standard error."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

SECONDS_BETWEEN_LINES = 20.0


class Display(Protocol):
    """Display of the progress of one stage after the other."""

    def start(self, title: str, done: int, steps: int) -> None:
        """Begin a stage, or continue it after `done` of its `steps`."""

    def advance(self, done: int, loss: float, samples_per_s: float | None) -> None:
        """Show that one more optimizer step is done."""

    def note(self, text: str) -> None:
        """Print a line beside the progress."""


@contextmanager
def open_display(*, silent: bool = False) -> Iterator[Display]:
    """Yield the display that fits standard error; a silent one is for processes other than the main one."""
    if silent:
        yield _Silence()
        return
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        TextColumn("{task.fields[loss]}", style="dim"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield _Bars(progress)


class _Silence:
    def start(self, title: str, done: int, steps: int) -> None:
        pass

    def advance(self, done: int, loss: float, samples_per_s: float | None) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class _Bars:
    def __init__(self, progress: Any) -> None:
        self._progress = progress

    def start(self, title: str, done: int, steps: int) -> None:
        self._task = self._progress.add_task(title, total=steps, completed=done, rate="", loss="")

    def advance(self, done: int, loss: float, samples_per_s: float | None) -> None:
        self._progress.update(self._task, completed=done, rate=_rate(samples_per_s), loss=f"loss {loss:.4g}")

    def note(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)


class _Lines:
    def start(self, title: str, done: int, steps: int) -> None:
        self._title, self._steps = title, steps
        self._first, self._began = done, time.monotonic()
        self._last_line = self._began
        if done:
            self.note(f"{title}: going on after step {done} of {steps}")

    def advance(self, done: int, loss: float, samples_per_s: float | None) -> None:
        now = time.monotonic()
        if done < self._steps and now - self._last_line < SECONDS_BETWEEN_LINES:
            return
        self._last_line = now
        left = (now - self._began) / (done - self._first) * (self._steps - done)
        time_left = f"{_clock(left)} left" if done < self._steps else f"took {_clock(now - self._began)}"
        self.note(f"{self._title}: step {done}/{self._steps}, {_rate(samples_per_s)}, {time_left}, loss {loss:.4g}")

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)  # noqa: T201  (standard error is where progress belongs)


def _rate(samples_per_s: float | None) -> str:
    return "? samples/s" if samples_per_s is None else f"{samples_per_s:.1f} samples/s"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
