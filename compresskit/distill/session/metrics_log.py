"""The file `metrics.jsonl`: one line a step, cut back to the checkpoint when a run continues."""

import json
import os
import time
from pathlib import Path
from typing import Any

FLUSH_SECONDS = 0.1
"""Least number of seconds between two writes to the file."""


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
        self._flushed = 0.0
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

    def append(self, record: dict[str, Any]) -> None:
        """Add one record."""
        self.records.append(record)
        if self._file is not None:
            self._file.write(json.dumps(record).encode() + b"\n")
            now = time.monotonic()
            if now - self._flushed > FLUSH_SECONDS:
                self._file.flush()  # so that `tail -f` shows it
                self._flushed = now

    def flush(self) -> int:
        """Write all records to the disk, and return the size of the file in bytes."""
        if self._file is None:
            return 0
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
