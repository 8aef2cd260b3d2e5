"""The command that starts a run, and the one that resumes it."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compresskit import nodes
from compresskit.distill.processes import launched
from compresskit.distill.session.interrupt import stopped_by_schedulers
from compresskit.recipe.reading import yaml
from compresskit.recipe.run_files import RECIPE_FILE
from compresskit.recipe.terminal import say


@contextmanager
def resume_hint(folder: Path, arguments: Sequence[str]) -> Iterator[None]:
    """Show the command that resumes the run when a signal or a full disk stops it, once its folder holds a recipe."""
    try:
        with stopped_by_schedulers():
            yield
    except (KeyboardInterrupt, OSError):
        if (folder / RECIPE_FILE).exists():
            command = [*_program(), "run", *arguments, "--out", str(folder), "--resume"]
            say(f"To go on: {shlex.join(command)}")
        raise


def call_options(preset: str | None, overrides: Mapping[str, Any] | Sequence[str], device: str) -> list[str]:
    """Return the options of `compresskit run` that are equal to the arguments of a Python call."""
    changes = overrides
    if isinstance(overrides, Mapping):
        changes = [f"{path}={yaml.dump_line(value)}" for path, value in overrides.items()]
    return [
        *(() if preset is None else ("--preset", preset)),
        *(part for change in changes for part in ("--set", change)),
        *(() if device == "auto" else ("--device", device)),
        *(part for package in nodes.allowed_packages() for part in ("--allow", package)),
    ]


def _program() -> list[str]:
    """Return the program and its options that started this process."""
    count = launched()[1]
    return ["compresskit"] if count == 1 else ["torchrun", "--nproc-per-node", str(count), "-m", "compresskit"]
