"""Text for people: notes on standard error, and tables as plain text."""

import io
import sys
from typing import TYPE_CHECKING

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
