"""A bar with the time left, on a terminal; nothing where standard error is a file or a pipe."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Watch = Callable[[str, int], Callable[[int], None]]
"""Begins a bar of so many pixels; what it returns is told of pixels done."""


@contextmanager
def watched(name: str) -> Iterator[Watch]:
    """Inside, bars of the work on one image."""
    if not sys.stderr.isatty():
        yield lambda _title, _pixels: _nothing
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
    with Progress(*columns, TimeRemainingColumn(elapsed_when_finished=True), console=Console(stderr=True)) as progress:

        def begin(title: str, pixels: int) -> Callable[[int], None]:
            bar = progress.add_task(f"{name}: {title}", total=pixels)
            return lambda done: progress.advance(bar, done)

        yield begin


def _nothing(_pixels: int) -> None:
    pass
