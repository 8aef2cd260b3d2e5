"""The file `metrics.jsonl`: one line a step, cut back to the checkpoint when a run continues."""

import json
import os
import time
from pathlib import Path
from typing import Any, BinaryIO

WRITE_SECONDS = 0.1
"""Least number of seconds between two writes to the file: many records are encoded faster together than one by one."""


class MetricsLog:
    """Log that appends records to a file; without a path it only holds them in memory.

    Args:
        path: The file, or None.
        size: Number of bytes that count; the rest was written after the checkpoint and is cut off.
        writes: Whether this process writes the file; others only read it.
    """

    def __init__(self, path: Path | None, size: int = 0, *, writes: bool = True) -> None:
        self.records: list[dict[str, Any]] = []
        self._file = None
        self._written = 0
        """Number of records that are in the file."""
        self._wrote_at = 0.0
        if path is None:
            return
        if not writes:
            lines = path.read_bytes()[:size].splitlines() if size else []
            self.records = [json.loads(line) for line in lines]
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        self._file.truncate(min(size, self._file.tell()))
        self._file.seek(0)
        self.records = [json.loads(line) for line in self._file]
        self._written = len(self.records)

    def append(self, record: dict[str, Any]) -> None:
        """Add one record. The file has it after the next write, which `flush` and `close` do, too."""
        self.records.append(record)
        if self._file is not None and time.monotonic() - self._wrote_at > WRITE_SECONDS:
            self._write(self._file)

    def flush(self) -> int:
        """Write all records to the disk, and return the size of the file in bytes."""
        if self._file is None:
            return 0
        self._write(self._file)
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Write all records, and close the file."""
        if self._file is not None:
            self._write(self._file)
            self._file.close()

    def _write(self, file: BinaryIO) -> None:
        lines = [f"{json.dumps(record)}\n" for record in self.records[self._written :]]
        self._written = len(self.records)
        file.write("".join(lines).encode())
        file.flush()  # so that `tail -f` shows it
        self._wrote_at = time.monotonic()
