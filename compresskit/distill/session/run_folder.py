"""The folder of a run: the log, the checkpoints, the weights at its end. The main process writes, all read."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compresskit.distill.cache.fingerprints import named_tensors
from compresskit.distill.processes import Processes
from compresskit.distill.session.checkpoint import Checkpoints, check_fingerprint
from compresskit.distill.session.metrics_log import LogMark, MetricsLog
from compresskit.errors import CheckpointError
from compresskit.files import read_weights, state_checksum, write_weights

CHECKPOINT_SECONDS = 60.0
"""Seconds of training after which a checkpoint is due, besides those at each stage's end."""


class RunFolder:
    """The folder of a run.

    Args:
        out: Its path; None keeps only a part of the log, in memory.
        fingerprint: Properties that must be the same for the run in the folder to be continued.
        processes: The processes that share the run.
    """

    def __init__(self, out: Path | None, fingerprint: Mapping[str, str], processes: Processes) -> None:
        self.out = out
        self.log = MetricsLog(None)
        self._fingerprint, self._processes = fingerprint, processes
        self._saved_at = time.monotonic()
        self._checkpoints = None if out is None else Checkpoints(out / "checkpoints")

    def resume(self, device: torch.device, note: Callable[[str], None], *, resume: bool | str) -> dict[str, Any] | None:
        """Return the saved state of the run in the folder, or None if a run begins: see `ProgressiveDistiller.fit`.

        Raises:
            CheckpointError: The folder does not fit `resume`, or holds another run.
        """
        if self.out is None or self._checkpoints is None:
            if resume is True:
                raise CheckpointError("resume=True needs a folder: give ProgressiveDistiller(..., out=...)")
            return None
        path, checkpoints = self.out / "metrics.jsonl", self._checkpoints
        used = bool(checkpoints.files()) or path.exists()
        if resume is False and used:
            raise CheckpointError(
                f"{self.out} already holds a run.\nContinue it with resume=True, or choose another folder."
            )
        state = checkpoints.newest(device, note)
        self._check_shared(self.out, state)
        if state is not None:
            check_fingerprint(state["fingerprint"], self._fingerprint, self.out)
        elif resume is True:
            raise CheckpointError(f"{self.out} holds no checkpoint to continue from; start it without resume")
        elif used:
            note(f"{self.out} holds no checkpoint yet: starting again")
        self.log = MetricsLog(path, None if state is None else _mark(state))
        if self._processes.is_main:
            self.log.check(note)
        return state

    def open(self) -> None:
        """Get ready for new records, in the main process.

        Raises:
            CheckpointError: The folder cannot be written.
        """
        if self._processes.is_main:
            self.log.open()

    @property
    def due(self) -> bool:
        """True when it is time for a checkpoint."""
        return time.monotonic() - self._saved_at > CHECKPOINT_SECONDS

    def save(self, state: Mapping[str, Any]) -> None:
        """Write a checkpoint, in the main process."""
        if self._checkpoints is not None and self._processes.is_main:
            size, checksum = self.log.flush()
            log = {"log_bytes": size, "log_crc32": checksum}
            self._checkpoints.save({**state, "fingerprint": self._fingerprint, **log})
        self._saved_at = time.monotonic()

    def save_weights(self, models: Mapping[str, nn.Module]) -> None:
        """Write the weights of models, each to a file of its name, in the main process."""
        if self.out is not None and self._processes.is_main:
            for name, model in models.items():
                write_weights(self.out / f"{name}.safetensors", named_tensors(model))

    def restore_weights(self, models: Mapping[str, nn.Module], note: Callable[[str], None]) -> None:
        """Write the files of `save_weights` again that are missing or damaged, in the main process."""
        if self.out is None or not self._processes.is_main:
            return
        for name, model in models.items():
            path, state = self.out / f"{name}.safetensors", named_tensors(model)
            if damage := _damage(path, state):
                note(f"{damage}; it is written again from the checkpoint")
                try:
                    write_weights(path, state)
                except OSError as error:
                    note(f"{path} cannot be written: {error.strerror}")

    def _check_shared(self, out: Path, state: Mapping[str, Any] | None) -> None:
        """Check that all processes see the same checkpoint in the folder, before one of them writes to it."""
        position = None if state is None else (state["stage"], state["step"], state["global_step"])
        if len(set(self._processes.gather(position))) > 1:
            raise CheckpointError(
                f"{out}: the processes of this run see different checkpoints there; the folder must be one that all of "
                "them share"
            )


def _mark(state: Mapping[str, Any]) -> LogMark:
    return LogMark(state["log_bytes"], state.get("log_crc32"), state["global_step"])


def _damage(path: Path, state: Mapping[str, Tensor]) -> str | None:
    """Return why a file does not hold a state, or None if it does."""
    if not path.exists():
        return f"{path} is missing"
    try:
        same = state_checksum(read_weights(path)) == state_checksum(state)
    except CheckpointError as error:
        return str(error)
    return None if same else f"{path} has other weights than the checkpoint"
