"""The history of a run: its records, one a step, kept as lines of JSON and parsed when they are read."""

import json
from array import array
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

_BYTES = 2 * 2**20
"""Most bytes of the lines that a run without a folder keeps."""


class History(Sequence[dict[str, Any]]):
    """Records in the order of their steps, as in `metrics.jsonl`; equal to a list of the same records.

    With a folder they stay in the log, and are read from it every time. Without one they are in memory: all of them
    up to some thousand steps, and every n-th beyond (see `ThinnedLines`).
    """

    def __init__(self, lines: Sequence[bytes]) -> None:
        self._lines = lines

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(json.loads, self._lines)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        """Return the record at a position, or a list of those in a slice."""
        if isinstance(index, slice):
            return [json.loads(line) for line in self._lines[index]]
        return json.loads(self._lines[index])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(one == another for one, another in zip(self, other, strict=True))

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        return f"History({len(self)} records)"


class FileLines(Sequence[bytes]):
    """The lines of a file as it is now, read when they are needed; lines that are appended later do not count.

    Args:
        path: The file, which may be missing.
        size: Number of bytes that count; None is all.
    """

    def __init__(self, path: Path, size: int | None = None) -> None:
        self._path = path
        whole = path.stat().st_size if path.exists() else 0
        self._size = whole if size is None else min(size, whole)

    def __len__(self) -> int:
        return len(self._offsets)

    def __iter__(self) -> Iterator[bytes]:
        if not self._size:
            return
        with self._path.open("rb") as file:
            left = self._size
            for line in file:
                if left <= 0:
                    return
                yield line[:left]
                left -= len(line)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        """Return the line at a position, or a list of those in a slice."""
        if isinstance(index, slice):
            with self._path.open("rb") as file:
                lines = []
                for offset in self._offsets[index]:
                    file.seek(offset)
                    lines.append(file.readline())
                return lines
        offset = self._offsets[index]
        with self._path.open("rb") as file:
            file.seek(offset)
            return file.readline()

    @cached_property
    def _offsets(self) -> "array[int]":
        """The position of each line in the file."""
        offsets, position = array("Q"), 0
        for line in self:
            offsets.append(position)
            position += len(line)
        return offsets


class ThinnedLines:
    """Lines in a bounded number of bytes: all of them at first, then every second, every fourth, …, and the last one.

    Args:
        limit: Most bytes of all lines together.
    """

    def __init__(self, limit: int = _BYTES) -> None:
        self.limit = limit
        self._kept: list[tuple[int, bytes]] = []
        self._last: tuple[int, bytes] | None = None
        self._count, self._stride, self._bytes = 0, 1, 0

    def append(self, number: int, line: bytes) -> None:
        """Add a line.

        Args:
            number: Number by which the lines are ordered when they are merged with others.
            line: The line.
        """
        self._last = number, line
        if self._count % self._stride == 0:
            self._kept.append(self._last)
            self._bytes += len(line)
        while self._bytes > self.limit and len(self._kept) > 1:
            self._kept = self._kept[::2]  # these are the multiples of twice the stride
            self._stride *= 2
            self._bytes = sum(len(kept) for _, kept in self._kept)
        self._count += 1

    def lines(self) -> list[tuple[int, bytes]]:
        """Return the lines that are kept, with their numbers."""
        last = [] if self._last is None or self._last[0] == self._kept[-1][0] else [self._last]
        return [*self._kept, *last]
