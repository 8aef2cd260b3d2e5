"""Text for people: notes on standard error, tables as plain text, lists in words."""

import io
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from compresskit.distill.processes import is_main

if TYPE_CHECKING:
    from rich.console import RenderableType


def say(text: str) -> None:
    """Write a note to standard error, once for all processes of a run."""
    if is_main():
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def plain_text(renderable: "RenderableType") -> str:
    """Return what a terminal would show, without colours."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=140)
    with console.capture() as capture:
        console.print(renderable, soft_wrap=True)
    return capture.get().rstrip()


def words(values: Sequence[Any]) -> str:
    """Return a list in words: `a, b and c`."""
    *most, last = map(str, values)
    return f"{', '.join(most)} and {last}" if most else last
