"""The command that starts a run, and the one that goes on with it."""

import errno
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compresskit import nodes
from compresskit.distill.processes import launched
from compresskit.recipe.reading import yaml
from compresskit.recipe.reading.run_files import RECIPE_FILE
from compresskit.recipe.terminal import say


@contextmanager
def says_how_to_go_on(folder: Path, arguments: Sequence[str]) -> Iterator[None]:
    """Inside, Ctrl-C and a full disk are answered with the command that goes on, once the folder is there."""
    try:
        yield
    except (KeyboardInterrupt, OSError, RuntimeError) as error:
        full = isinstance(error, RuntimeError) and _could_not_write(error)
        if (full or not isinstance(error, RuntimeError)) and (folder / RECIPE_FILE).exists():
            command = [*_start(), "run", *arguments, "--out", str(folder), "--resume"]
            say(f"To go on: {shlex.join(command)}")
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        raise


def _start() -> list[str]:
    """What this was started by."""
    count = launched()[1]
    return ["compresskit"] if count == 1 else ["torchrun", "--nproc-per-node", str(count), "-m", "compresskit"]


def _could_not_write(error: RuntimeError) -> bool:
    """Whether this is how torch says that a checkpoint did not fit on the disk: a write was cut short."""
    text = str(error)
    return "PytorchStreamWriter failed writing" in text or ("inline_container" in text and "unexpected pos" in text)


def call_options(preset: str | None, overrides: Mapping[str, Any] | Sequence[str], device: str) -> list[str]:
    """The options of the command that this call amounts to."""
    changes = overrides
    if isinstance(overrides, Mapping):
        changes = [f"{path}={yaml.dump_line(value)}" for path, value in overrides.items()]
    return [
        *(() if preset is None else ("--preset", preset)),
        *(part for change in changes for part in ("--set", change)),
        *(() if device == "auto" else ("--device", device)),
        *(part for package in nodes.allowed() for part in ("--allow", package)),
    ]
