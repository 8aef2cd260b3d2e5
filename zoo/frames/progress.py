"""A bar with the time left, on a terminal; nothing where standard error is a file or a pipe."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

StartBar = Callable[[str, int], Callable[[int], None]]
"""Starts a bar with a title and a number of pixels, and returns a function that advances it by a number of pixels."""


@contextmanager
def progress_bars(name: str) -> Iterator[StartBar]:
    """Show bars of the work on one image inside the block."""
    if not sys.stderr.isatty():
        yield no_bar
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
    with Progress(*columns, TimeRemainingColumn(elapsed_when_finished=True), console=Console(stderr=True)) as progress:

        def start(title: str, pixels: int) -> Callable[[int], None]:
            bar = progress.add_task(f"{name}: {title}", total=pixels)
            return lambda done: progress.advance(bar, done)

        yield start


def no_bar(_title: str, _pixels: int) -> Callable[[int], None]:
    """Start a bar that is not shown."""
    return lambda _pixels: None
