"""A store of tensors by key: in memory, or in a folder of files that are mapped into memory. Files hold data only."""

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from compresskit.distill.checkpoint import write_atomically
from compresskit.distill.shelf import ENDING, Place

Key = tuple[int, int, int]
"""Sample, variant, and the checksum of what the teacher was given."""

SHARD_BYTES = 64 * 2**20
"""What one file holds: large enough that there are few of them, small enough that a killed run loses little."""

_KEY_BYTES, _HEADER_BYTES = 24, 1024
"""What a file holds beside the tensors."""

_TICK_NANOSECONDS = 10**8


@dataclass
class Store:
    """Tensors of one shape and type.

    A key that is put is in memory at first. With a place for files, whatever fills one moves there, and from then on
    the file's pages are mapped: the system keeps them in memory as far as there is room, once for all processes. Files
    are written whole or not at all, and never changed; another process's are found when a key is missing. What no file
    can take stays in memory.

    Args:
        shape: Of the tensor of one sample.
        dtype: Of all tensors.
        limit: Most bytes of what is put here; what would go beyond is not taken.
        place: Where the files are; None keeps everything in memory.
    """

    shape: torch.Size
    dtype: torch.dtype
    limit: int
    place: Place | None = None
    full: bool = field(default=False, init=False)
    """Whether no more files can be written."""
    _places: dict[Key, tuple[Tensor, int]] = field(default_factory=dict, init=False, repr=False)
    _open: dict[Key, Tensor] = field(default_factory=dict, init=False, repr=False)
    """What is in no file yet."""
    _files: dict[Path, Tensor] = field(default_factory=dict, init=False, repr=False)
    """The mapped values of each file, none of damaged ones."""
    _put: int = field(default=0, init=False, repr=False)
    _changed: int = field(default=-1, init=False, repr=False)

    @property
    def entry_bytes(self) -> int:
        """What one tensor takes."""
        return self.shape.numel() * self.dtype.itemsize

    @property
    def bytes(self) -> int:
        """What all of them take."""
        return len(self._places) * self.entry_bytes

    def __len__(self) -> int:
        return len(self._places)

    def take(self, keys: Sequence[Key]) -> Tensor | None:
        """The tensors of all keys, (n, *shape), or None where one of them is missing."""
        if not all(key in self._places for key in keys):
            self._look()
        try:
            return torch.stack([values[row] for values, row in map(self._places.__getitem__, keys)])
        except KeyError:
            return None

    def put(self, keys: Sequence[Key], tensors: Tensor) -> None:
        """Keep (n, *shape) under `keys`; what is here already stays as it is."""
        room = self.limit // max(1, self.entry_bytes) - self._put
        new = [row for row, key in enumerate(keys) if key not in self._places][: max(0, room)]
        kept = tensors[new].to("cpu", self.dtype)
        self._put += len(new)
        for position, row in enumerate(new):
            self._places[keys[row]] = kept, position
            if self.place is not None:
                self._open[keys[row]] = kept[position]
        if not self.full and len(self._open) * self.entry_bytes >= SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Bring what is in memory only to the folder, if there is one and it has room."""
        if self.place is None or not self._open:
            return
        with suppress(OSError), self.place.shelf.alone():  # a full disk is no reason to end a run
            self._look()  # another process may have written the same
            size = len(self._open) * (self.entry_bytes + _KEY_BYTES) + _HEADER_BYTES
            if self._open and self.place.has_room(size, self._outdated):
                self._write(self.place.folder / f"{uuid.uuid4().hex}{ENDING}")
        self.full = bool(self._open)

    def close(self) -> None:
        """Flush, and let others make room where the files are."""
        self.flush()
        if self.place is not None:
            self.place.close()

    def _write(self, path: Path) -> None:
        keys = torch.tensor(list(self._open), dtype=torch.int64)
        shard = {"keys": keys, "values": torch.stack(list(self._open.values()))}
        told = {"crc32": _checksum(shard["keys"], shard["values"])}
        write_atomically(path, lambda part: save_file(shard, part, told))
        self._map(path)

    def _look(self) -> None:
        """Find the files that other processes wrote since."""
        if self.place is None or (changed := self.place.changed()) == self._changed:
            return
        # a clock ticks in milliseconds: more may come under the same number
        self._changed = changed if time.time_ns() - changed > _TICK_NANOSECONDS else -1
        for path in self.place.files():
            if path not in self._files:
                self._map(path)

    def _map(self, path: Path) -> None:
        self._files[path] = torch.empty(0)
        for keys, values in _mapped(path):
            if values.dtype == self.dtype and values.shape[1:] == self.shape and len(keys) == len(values):
                self._files[path] = values
                for row, key in enumerate(map(tuple, keys.tolist())):
                    self._places[key] = values, row
                    self._open.pop(key, None)

    def _outdated(self) -> list[Path]:
        """Files that are damaged, or hold other data under the numbers of what is to be written."""
        given = {key[:2]: key for key in self._open}
        others = {id(values) for key, (values, _) in self._places.items() if given.get(key[:2], key) != key}
        return [path for path, values in self._files.items() if not len(values) or id(values) in others]


def _mapped(path: Path) -> Iterator[tuple[Tensor, Tensor]]:
    """Keys and values of a file, the values as its mapped pages; nothing of a file that is damaged or just removed."""
    try:
        with safe_open(path, framework="pt") as file:
            keys, values = file.get_tensor("keys"), file.get_tensor("values")
            told = (file.metadata() or {}).get("crc32")
    except (SafetensorError, OSError):
        return
    if told == _checksum(keys, values):
        yield keys, values


def _checksum(*tensors: Tensor) -> str:
    number = 0
    for tensor in tensors:
        number = crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, number)
    return str(number)
