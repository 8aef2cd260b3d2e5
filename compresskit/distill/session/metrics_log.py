"""The file `metrics.jsonl`: one line a step, checked and cut back to the checkpoint when a run continues."""

import errno
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from compresskit.distill.session.history import FileLines, History, ThinnedLines
from compresskit.errors import CheckpointError
from compresskit.files import write_atomically

WRITE_SECONDS = 0.1
"""Least number of seconds between two writes to the file: many records are encoded faster together than one by one."""

_MOST_UNWRITTEN = 256
"""Most records that wait for the next write, so that they take little memory."""

_CHUNK = 2**20
_UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)


class LogMark(NamedTuple):
    """The part of the file that was written before a checkpoint, as the checkpoint describes it."""

    size: int = 0
    """Number of bytes."""
    checksum: int | None = None
    """CRC-32 of these bytes; None in checkpoints of earlier versions."""
    steps: int = 0
    """Number of steps, each with a line."""


class MetricsLog:
    """Log that appends records to a file; without a path it keeps some of them in memory.

    Nothing is written before `open`, and only the main process of a run opens it.

    Args:
        path: The file, or None.
        mark: The part of the file that counts; the rest was written after the checkpoint and is cut off.
    """

    def __init__(self, path: Path | None, mark: LogMark | None = None) -> None:
        self._path, self._mark = path, mark or LogMark()
        self._file = None
        self._unwritten: list[dict[str, Any]] = []
        self._wrote_at = 0.0
        self._size, self._checksum = 0, 0
        self._steps = ThinnedLines()
        self._evaluations = ThinnedLines()
        """Records with metrics, which are few: they are thinned by themselves."""

    def check(self, note: Callable[[str], None]) -> None:
        """Check the part of the file that counts. If it is damaged, keep its readable lines, and a copy of it as it is.

        Args:
            note: Function that receives a line of text about damage.
        """
        if self._path is None or not self._mark.size:
            return
        try:
            checksum = _checksum(self._path, self._mark)
            if checksum is None:
                self._mark = _mend(self._path, self._mark, note)
        except OSError as error:
            note(f"{self._path} cannot be read or mended ({error.strerror}); the training does not depend on it")

    def open(self) -> None:
        """Cut off what was written after the checkpoint, and open the file for writing.

        Raises:
            CheckpointError: The file cannot be written.
        """
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a+b")
            self._size = min(self._mark.size, self._path.stat().st_size)  # it is shorter if it could not be mended
            self._file.truncate(self._size)
            self._checksum = _crc32_of(self._path, self._size)
        except OSError as error:
            if error.errno not in _UNWRITABLE:
                raise
            raise CheckpointError(f"{self._path} cannot be written ({error.strerror}): the run cannot go on") from error

    def append(self, record: dict[str, Any]) -> None:
        """Add one record. The file has it after the next write, which `flush` and `close` do, too."""
        if self._path is None or self._file is not None:
            self._unwritten.append(record)
            if len(self._unwritten) == _MOST_UNWRITTEN or time.monotonic() - self._wrote_at > WRITE_SECONDS:
                self._write()

    def flush(self) -> tuple[int, int]:
        """Write all records to the disk, and return the size and the checksum of the file."""
        if self._file is not None:
            self._write()
            os.fsync(self._file.fileno())
        return self._size, self._checksum

    def close(self) -> None:
        """Write all records, and close the file."""
        if self._file is not None:
            self._write()
            self._file.close()

    def history(self) -> History:
        """Return the records so far."""
        if self._path is not None:
            return History(FileLines(self._path))
        self._write()
        numbered = sorted([*self._steps.lines(), *self._evaluations.lines()])
        return History([line for _, line in numbered])

    def _write(self) -> None:
        records, self._unwritten = self._unwritten, []
        lines = [f"{json.dumps(record)}\n".encode() for record in records]
        if self._file is None:
            for record, line in zip(records, lines, strict=True):
                (self._evaluations if "metrics" in record else self._steps).append(record["global_step"], line)
        else:
            content = b"".join(lines)
            self._file.write(content)
            self._file.flush()  # so that `tail -f` shows it
            self._size, self._checksum = self._size + len(content), crc32(content, self._checksum)
        self._wrote_at = time.monotonic()


def _crc32_of(path: Path, size: int) -> int:
    """Return the checksum of the first `size` bytes of a file."""
    checksum = 0
    with path.open("rb") as file:
        while size and (chunk := file.read(min(size, _CHUNK))):
            checksum, size = crc32(chunk, checksum), size - len(chunk)
    return checksum


def _checksum(path: Path, mark: LogMark) -> int | None:
    """Return the checksum of the part of the file that counts, or None if it is damaged or missing."""
    checksum, left = 0, mark.size
    if not left:
        return 0
    if not path.is_file():
        return None
    with path.open("rb") as file:
        while left and (chunk := file.read(min(left, _CHUNK))):
            checksum, left = crc32(chunk, checksum), left - len(chunk)
    if mark.checksum is None and not left:
        return checksum if all(_is_record(line, mark.steps) for line in FileLines(path, mark.size)) else None
    return checksum if checksum == mark.checksum and not left else None


def _mend(path: Path, mark: LogMark, note: Callable[[str], None]) -> LogMark:
    """Reduce a damaged file to the lines that can be read, after a copy of it, and return its new part that counts."""
    if not path.exists():
        note(f"{path} is missing: the records of the first {mark.steps} steps are lost, and the training goes on")
        return LogMark()
    copy = path.with_name(f"{path.stem}.damaged{path.suffix}")
    if path.is_file():
        if not copy.exists():  # else a run was killed after the first mending, and the first copy is the right one
            shutil.copyfile(path, copy)
        lines = [line for line in FileLines(path, mark.size) if _is_record(line, mark.steps)]
    else:
        path.rename(copy)
        lines = []
    content = b"".join(lines)
    write_atomically(path, lambda part: part.write_bytes(content))
    note(
        f"{path} is damaged: {len(lines)} of its {mark.steps} records can be read, and stay; the training goes on, and "
        f"the file as it was is now {copy.name}"
    )
    return LogMark(len(content), crc32(content), mark.steps)


def _is_record(line: bytes, steps: int) -> bool:
    """Return whether a line is a record of one of the first steps."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and record.get("global_step") in range(steps) and line.endswith(b"\n")
