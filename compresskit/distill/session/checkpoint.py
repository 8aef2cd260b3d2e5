"""Checkpoints: everything that a run needs to continue exactly, in files that are whole or absent, and run no code."""

import io
import pickle
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from torch import nn

from compresskit.distill.cache.fingerprints import named_tensors, text_digest, weights_digest
from compresskit.distill.objective.models import Models
from compresskit.distill.spec.describe import describe
from compresskit.distill.spec.stage import Stage
from compresskit.errors import CheckpointError, first_line
from compresskit.files import write_atomically

KEPT = 2
"""Number of checkpoints that stay."""


class Checkpoints:
    """The checkpoints of one run: a folder of numbered files, of which the newest two stay."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def files(self) -> list[Path]:
        """Return the checkpoints, oldest first."""
        return sorted(self.folder.glob("[0-9]*.pt"))

    def save(self, state: Mapping[str, Any]) -> Path:
        """Write `state` under its `global_step` and stage, delete all but the newest two, and return the new file."""
        path = self.folder / f"{state['global_step']:08d}-{state['stage']:03d}.pt"
        content = io.BytesIO()  # torch.save hides what a full disk says; a plain write does not
        torch.save(dict(state), content)
        write_atomically(path, lambda part: part.write_bytes(content.getbuffer()))
        for old in self.files()[:-KEPT]:
            old.unlink()
        return path

    def newest(self, device: torch.device, note: Callable[[str], None]) -> dict[str, Any] | None:
        """Return the newest readable state, or None if there is no checkpoint; a damaged one is skipped and noted.

        Raises:
            CheckpointError: There are checkpoints and none can be read.
        """
        files = self.files()
        for path in reversed(files):
            try:
                return torch.load(path, map_location=device, weights_only=True)
            except (RuntimeError, EOFError, BadZipFile, pickle.UnpicklingError, OSError, KeyError) as error:
                note(f"{path} cannot be read ({first_line(error)[:80]}); trying the one before it")
        if files:
            raise CheckpointError(
                f"{self.folder}: none of the {len(files)} checkpoints can be read; start again in another folder"
            )
        return None


def fingerprint(
    stages: tuple[Stage, ...], models: Models, learning: Collection[str], seed: int, precision: str
) -> dict[str, str]:
    """Return the properties that must be the same for a run to be continued, each as a short hash or value.

    For a model that learns, only names and shapes are compared, because the run changes its weights.
    """
    teachers = [
        f"{name} {_structure(teacher) if name in learning else weights_digest(teacher)}"
        for name, teacher in models.teachers.items()
    ]
    return {
        "stages": _digest([describe(stage) for stage in stages]),
        "student": _structure(models.student),
        "teacher": _digest(teachers),
        "views": _digest([f"{name} {describe(view)}" for name, view in sorted(models.views.items())]),
        "seed": str(seed),
        "precision": precision,
    }


def check_fingerprint(stored: Mapping[str, str], expected: Mapping[str, str], folder: Path) -> None:
    """Refuse the checkpoint of another run.

    Raises:
        CheckpointError: A part differs; the message names it.
    """
    for part, value in expected.items():
        if stored.get(part) != value:
            raise CheckpointError(
                f"{folder} holds another run: its {part} differs from this one's.\n"
                "Continue it with what it was started with, or choose another folder."
            )


def _structure(model: nn.Module) -> str:
    return _digest([f"{name} {tuple(t.shape)} {t.dtype}" for name, t in named_tensors(model).items()])


def _digest(lines: list[str]) -> str:
    return text_digest(*lines, digits=16)
