"""The output of commands, and the completion of their arguments."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType


def show(result: "RenderableType") -> None:
    """Print a result, once for all processes of a run. A reader that closes the pipe, such as `| head`, is no error."""
    from rich.console import Console

    from compresskit.distill.processes import is_main

    if not is_main():
        return

    console = Console(highlight=False)
    with console.capture() as capture:
        console.print(result, soft_wrap=True)
    try:
        sys.stdout.write(f"{capture.get().rstrip()}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # otherwise Python complains when it flushes at exit


def recipe_names(incomplete: str) -> list[str]:
    """Return the shipped recipes and the files that begin with the text."""
    from compresskit.recipe.reading.shipped import shipped_recipes

    files = [str(path) for path in Path().glob(f"{incomplete}*") if path.suffix == ".yaml" or path.is_dir()]
    return [name for name in shipped_recipes() if name.startswith(incomplete)] + files
