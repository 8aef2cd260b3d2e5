"""What commands print, and what they complete."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType


def show(result: "RenderableType") -> None:
    """Print a result, once for all processes of a run; a reader that has closed the pipe (`| head`) has seen enough."""
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
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at its end


def recipe_names(incomplete: str) -> list[str]:
    """Shipped recipes and files that begin so."""
    from compresskit.recipe.reading.shipped import shipped_recipes

    files = [str(path) for path in Path().glob(f"{incomplete}*") if path.suffix == ".yaml" or path.is_dir()]
    return [name for name in shipped_recipes() if name.startswith(incomplete)] + files
