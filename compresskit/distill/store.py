"""A store of tensors by key: in memory, or in a folder of files that are mapped into memory. Files hold data only."""

import os
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from compresskit.distill.checkpoint import write_atomically

Key = tuple[int, int, int]
"""Sample, variant, and the checksum of what the teacher was given."""

SHARD_BYTES = 64 * 2**20
"""What one file holds: large enough that there are few of them, small enough that a killed run loses little."""

_STALE_SECONDS = 3600.0


@dataclass
class Store:
    """Tensors of one shape and type.

    A key that is put is in memory at first. With a folder, whatever fills a file moves there, and from then on the
    file's pages are mapped: the system keeps them in memory as far as there is room, once for all processes. Files are
    written whole or not at all, and never changed; another process's are found when a key is missing.

    Args:
        shape: Of the tensor of one sample.
        dtype: Of all tensors.
        limit: Most bytes to hold; what would go beyond is not taken.
        folder: Where the files are; None keeps everything in memory.
    """

    shape: torch.Size
    dtype: torch.dtype
    limit: int
    folder: Path | None = None
    _places: dict[Key, tuple[Tensor, int]] = field(default_factory=dict, init=False, repr=False)
    _open: list[tuple[Key, Tensor]] = field(default_factory=list, init=False, repr=False)
    """What is in no file yet."""
    _files: set[str] = field(default_factory=set, init=False, repr=False)
    _changed: int = field(default=-1, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            for part in self.folder.glob("*.part"):  # of writers that were killed
                if time.time() - part.stat().st_mtime > _STALE_SECONDS:
                    part.unlink(missing_ok=True)
            os.utime(self.folder)  # in use: see `make_room`

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
        new = [row for row, key in enumerate(keys) if key not in self._places]
        room = max(0, self.limit - self.bytes) // max(1, self.entry_bytes)
        kept = tensors[new[:room]].to("cpu", self.dtype)
        for position, row in enumerate(new[:room]):
            self._places[keys[row]] = kept, position
            if self.folder is not None:
                self._open.append((keys[row], kept[position]))
        if len(self._open) * self.entry_bytes >= SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Bring what is in memory only to the folder, if there is one."""
        if self.folder is None or not self._open:
            return
        path = self.folder / f"{uuid.uuid4().hex}.safetensors"
        shard = {
            "keys": torch.tensor([key for key, _ in self._open], dtype=torch.int64),
            "values": torch.stack([value for _, value in self._open]),
        }
        write_atomically(path, lambda part: save_file(shard, part))
        self._open.clear()
        self._map(path)

    def _look(self) -> None:
        """Find the files that other processes wrote since."""
        if self.folder is None or (changed := self.folder.stat().st_mtime_ns) == self._changed:
            return
        self._changed = changed
        for path in sorted(self.folder.glob("*.safetensors")):
            if path.name not in self._files:
                self._map(path)

    def _map(self, path: Path) -> None:
        self._files.add(path.name)
        for keys, values in _mapped(path):
            if values.dtype == self.dtype and values.shape[1:] == self.shape and len(keys) == len(values):
                self._places |= {tuple(key): (values, row) for row, key in enumerate(keys.tolist())}


def _mapped(path: Path) -> Iterator[tuple[Tensor, Tensor]]:
    """Keys and values of a file, the values as its mapped pages; nothing of a file that is damaged or just removed."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file.get_tensor("keys"), file.get_tensor("values")
    except (SafetensorError, OSError):
        return


def make_room(folder: Path, keep: set[str], room: int) -> None:
    """Remove stores under `folder`, those first that were unused the longest, until the rest has `room` bytes at most.

    Args:
        folder: Holds a folder for each store.
        keep: Names of the stores that stay, and do not count.
        room: In bytes.
    """
    stores = [path for path in folder.iterdir() if path.is_dir() and len(path.name) == 32 and path.name not in keep]
    sizes = {path: sum(file.stat().st_size for file in path.glob("*.safetensors")) for path in stores}
    total = sum(sizes.values())
    for path in sorted(stores, key=lambda path: path.stat().st_mtime):
        if total <= room:
            return
        for file in path.glob("*.safetensors"):
            file.unlink(missing_ok=True)  # a process that has mapped it keeps its pages
        total -= sizes[path]
