"""Checkpoints: everything that a run needs to continue exactly, in files that are whole or absent, and run no code."""

import io
import pickle
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

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

_NUMBERS = {"stage", "step", "global_step", "batches", "log_bytes"}
_MAPPINGS = {"fingerprint", "student", "teachers", "learned"}
_KEYS = {*_NUMBERS, *_MAPPINGS, "given", "loop", "rng", "results"}
"""Keys that every checkpoint has, since the first version."""


class Checkpoints:
    """The checkpoints of one run: a folder of numbered files, of which the newest two stay."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._damaged: set[Path] = set()

    def files(self) -> list[Path]:
        """Return the checkpoints, oldest first."""
        return sorted(self.folder.glob("[0-9]*.pt"))

    def save(self, state: Mapping[str, Any]) -> Path:
        """Write `state` under its `global_step` and stage, and return the new file.

        Only the newest two that can be read stay, and nothing that a killed process left unfinished.
        """
        path = self.folder / f"{state['global_step']:08d}-{state['stage']:03d}.pt"
        content = io.BytesIO()  # torch.save hides what a full disk says; a plain write does not
        torch.save(dict(state), content)
        write_atomically(path, lambda part: part.write_bytes(content.getbuffer()))
        self._damaged.discard(path)
        readable = [file for file in self.files() if file not in self._damaged]
        for old in (*readable[:-KEPT], *self._damaged, *self.folder.glob("*.part")):
            old.unlink(missing_ok=True)
        self._damaged.clear()
        return path

    def newest(self, device: torch.device, note: Callable[[str], None]) -> dict[str, Any] | None:
        """Return the newest readable state, or None if there is no checkpoint; a damaged one is skipped and noted.

        Raises:
            CheckpointError: There are checkpoints and none can be read.
        """
        files = self.files()
        for path in reversed(files):
            try:
                return _read(path, device)
            except CheckpointError as error:
                self._damaged.add(path)
                note(f"{path} cannot be read ({error}); trying the one before it")
        if files:
            raise CheckpointError(
                f"{self.folder}: none of the {len(files)} checkpoints can be read; start again in another folder"
            )
        return None


def _read(path: Path, device: torch.device) -> dict[str, Any]:
    """Return the state in a checkpoint, a zip archive whose entries have a checksum each, which torch does not check.

    Raises:
        CheckpointError: The file is damaged, or is no checkpoint.
    """
    try:
        with ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise BadZipFile("its checksum is not that of its content")
        state = torch.load(path, map_location=device, weights_only=True)
    except (torch.OutOfMemoryError, MemoryError):  # says nothing about the file
        raise
    except pickle.UnpicklingError:
        raise CheckpointError("it holds other things than tensors and plain data") from None
    except Exception as error:  # noqa: BLE001  (a damaged archive may raise anything)
        raise CheckpointError(first_line(error)[:80]) from None
    if not _is_checkpoint(state):
        raise CheckpointError("it holds something else")
    return state


def _is_checkpoint(state: Any) -> bool:
    if not isinstance(state, Mapping) or not state.keys() >= _KEYS:
        return False
    numbers, mappings = ([state[key] for key in keys] for keys in (_NUMBERS, _MAPPINGS))
    return all(isinstance(value, int) for value in numbers) and all(isinstance(value, Mapping) for value in mappings)


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
