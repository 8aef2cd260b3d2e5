"""Tensors by key, in memory or in a folder that several runs and processes share. The files hold data only."""

import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from compresskit.distill.cache.options import CacheError
from compresskit.files import tensor_checksum, write_atomically

Key = tuple[int, int, int]
"""Sample, variant, and the checksum of the teacher's input."""

SHARD_BYTES = 64 * 2**20
"""Size of one file: large enough to keep files few, small enough that a killed run loses little."""

_SUFFIX = ".safetensors"

_KEY_BYTES, _HEADER_BYTES = 24, 1024
"""Size of the parts of a file that are not tensors."""

_TICK_NANOSECONDS = 10**8
"""Longest tick of a file system's clock, generously."""


class Store:
    """Tensors of one shape and type, by key.

    A new entry is in memory at first. With a folder, a full shard of entries becomes a file, whose pages are mapped
    from then on: the system keeps them in memory as far as there is room, once for all processes. Files are written
    whole or not at all and never change; those of other processes are looked for when a key is missing. Entries for
    which the folder has no room stay in memory.

    Args:
        shape: Shape of the tensor of one sample.
        dtype: Type of all tensors.
        limit: Most bytes that `put` keeps; later entries are dropped.
        folder: Folder for the files; None keeps everything in memory.
    """

    def __init__(self, shape: torch.Size, dtype: torch.dtype, limit: int, folder: "StoreFolder | None" = None) -> None:
        self.shape, self.dtype, self.limit, self.folder = shape, dtype, limit, folder
        self.full = False
        """True once the folder has no room for more files."""
        self._rows: dict[Key, tuple[Tensor, int]] = {}
        """The tensor that holds each entry, and its row in there."""
        self._unwritten: dict[Key, Tensor] = {}
        """Entries that are in no file yet."""
        self._mapped: dict[Path, Tensor] = {}
        """The mapped values of each file; empty for a damaged file."""
        self._put_count = 0
        """Number of entries that `put` has kept."""
        self._folder_version = -1
        """Version of the folder whose files are all mapped."""

    @property
    def entry_bytes(self) -> int:
        """Size of one tensor."""
        return self.shape.numel() * self.dtype.itemsize

    @property
    def bytes(self) -> int:
        """Size of all tensors."""
        return len(self._rows) * self.entry_bytes

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, keys: Sequence[Key]) -> Tensor | None:
        """Return the tensors of all keys, (n, *shape), or None if one of them is missing."""
        if not all(key in self._rows for key in keys):
            self._map_new_files()
        try:
            return _stack([values[row] for values, row in map(self._rows.__getitem__, keys)])
        except KeyError:
            return None

    def put(self, keys: Sequence[Key], tensors: Tensor) -> None:
        """Keep (n, *shape) under `keys`; an entry that exists stays as it is."""
        room = self.limit // max(1, self.entry_bytes) - self._put_count
        new = [row for row, key in enumerate(keys) if key not in self._rows][: max(0, room)]
        values = tensors[new].to("cpu", self.dtype)
        self._put_count += len(new)
        for position, row in enumerate(new):
            self._rows[keys[row]] = values, position
            if self.folder is not None:
                self._unwritten[keys[row]] = values[position]
        if not self.full and len(self._unwritten) * self.entry_bytes >= SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the entries that are in memory only to the folder, if there is one and it has room."""
        if self.folder is None or not self._unwritten:
            return
        with suppress(OSError, SafetensorError), self.folder.cache_folder.lock:  # a full disk is no reason to end a run
            self._map_new_files()  # another process may have written the same entries
            size = len(self._unwritten) * (self.entry_bytes + _KEY_BYTES) + _HEADER_BYTES
            if self._unwritten and self.folder.make_room(size, self._outdated):
                self._write(self.folder.path / f"{uuid.uuid4().hex}{_SUFFIX}")
        self.full = bool(self._unwritten)

    def close(self) -> None:
        """Flush, and allow other processes to remove the files."""
        self.flush()
        if self.folder is not None:
            self.folder.close()

    def _write(self, path: Path) -> None:
        keys = torch.tensor(list(self._unwritten), dtype=torch.int64)
        shard = {"keys": keys, "values": _stack([*self._unwritten.values()])}
        metadata = {"crc32": str(tensor_checksum(shard["keys"], shard["values"]))}
        write_atomically(path, lambda part: save_file(shard, part, metadata))
        self._map(path)

    def _map_new_files(self) -> None:
        """Map the files that other processes have written since the last look."""
        if self.folder is None or (version := self.folder.version()) == self._folder_version:
            return
        # a file system's clock ticks in milliseconds: another file may still come under the same version
        self._folder_version = version if time.time_ns() - version > _TICK_NANOSECONDS else -1
        for path in self.folder.files():
            if path not in self._mapped:
                self._map(path)

    def _map(self, path: Path) -> None:
        self._mapped[path] = torch.empty(0)
        if (shard := _read_shard(path)) is None:
            return
        keys, values = shard
        if values.dtype == self.dtype and values.shape[1:] == self.shape and len(keys) == len(values):
            self._mapped[path] = values
            for row, key in enumerate(map(tuple, keys.tolist())):
                self._rows[key] = values, row
                self._unwritten.pop(key, None)

    def _outdated(self) -> list[Path]:
        """Return the files that are damaged, or that hold other data under the numbers of unwritten entries."""
        new_keys = {key[:2]: key for key in self._unwritten}
        others = {id(values) for key, (values, _) in self._rows.items() if new_keys.get(key[:2], key) != key}
        return [path for path, values in self._mapped.items() if not len(values) or id(values) in others]


class StoreFolder:
    """The folder of one store. While it is open, no other process removes its files.

    Every process that has it open holds a lock file of its own, beside the folder. A lock file that nobody holds was
    left by a process that was killed.
    """

    def __init__(self, cache_folder: "CacheFolder", name: str) -> None:
        self.cache_folder, self.path = cache_folder, cache_folder.path / name
        self._lock_path = cache_folder.path / f"{name}.{uuid.uuid4().hex}.lock"
        self._lock = FileLock(self._lock_path)
        with cache_folder.lock:  # else another process could find this lock file while it is not held yet
            _held_locks(self.path)
            self._lock.acquire()
        self.path.mkdir(exist_ok=True)
        os.utime(self.path)  # the stores unused for longest are removed first

    def close(self) -> None:
        """Allow other processes to remove the files."""
        self._lock.release()
        with suppress(OSError):
            self._lock_path.unlink()

    def version(self) -> int:
        """Return a number that changes when files come or go; 0 if somebody removed the whole folder."""
        return self.path.stat().st_mtime_ns if self.path.is_dir() else 0

    def files(self) -> list[Path]:
        """Return the files that are complete."""
        return sorted(self.path.glob(f"*{_SUFFIX}"))

    def make_room(self, size: int, outdated: Callable[[], Iterable[Path]]) -> bool:
        """Return whether `size` more bytes fit into the cache folder, after files were removed if necessary.

        Args:
            size: Number of bytes.
            outdated: Function that returns files of this store which may go, if no other process has it open.
        """
        if self.cache_folder.make_room(size):
            return True
        others = set(_held_locks(self.path)) - {self._lock_path}
        return not others and self.cache_folder.make_room(size, outdated())


class CacheFolder:
    """A folder of stores whose files never take more than the budget.

    The stores unused for longest make room for new files; a store that a living process has open stays. Nothing else in
    the folder is counted or touched.

    Args:
        path: Path of the folder, which is created if necessary.
        budget: Most bytes of all files.

    Raises:
        CacheError: The folder cannot be written.
    """

    def __init__(self, path: Path, budget: int) -> None:
        self.path, self.budget = path, budget
        self.lock = FileLock(path / ".lock")
        """Held while files are written or removed; the system releases it when its process ends, however that ends."""
        try:
            path.mkdir(parents=True, exist_ok=True)
            with self.lock:
                pass
        except OSError as error:
            raise CacheError.because(f"the folder {str(path)!r} cannot be written: {error.strerror}") from None

    def open_store(self, name: str) -> StoreFolder:
        """Open the folder of one store, whose name has 32 characters; it is in use until it is closed."""
        return StoreFolder(self, name)

    def make_room(self, size: int, outdated: Iterable[Path] = ()) -> bool:
        """Return whether `size` more bytes fit, after outdated files and unused stores were removed if necessary.

        Call it while holding `lock`.
        """
        stores = [path for path in self.path.iterdir() if path.is_dir() and len(path.name) == 32]
        sizes = {path: path.stat().st_size for store in stores for path in _store_files(store)}
        room = self.budget - sum(sizes.values()) - size
        unused = [store for store in stores if not _held_locks(store)] if room < 0 else []
        unused.sort(key=lambda store: store.stat().st_mtime)
        for path in (*outdated, *(path for store in unused for path in _store_files(store))):
            if room >= 0:
                break
            path.unlink(missing_ok=True)  # a process that has mapped it keeps its pages
            room += sizes.pop(path, 0)
        return room >= 0


def _stack(tensors: list[Tensor]) -> Tensor:
    """Stack tensors outside autocast, which on a CPU refuses fp16."""
    with torch.autocast("cpu", enabled=False):
        return torch.stack(tensors)


def _held_locks(store: Path) -> list[Path]:
    """Return the lock files of the processes that have a store open, and remove those that killed processes left."""
    in_use = []
    for path in store.parent.glob(f"{store.name}.*.lock"):
        lock = FileLock(path)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            in_use.append(path)
        else:
            lock.release()
            path.unlink(missing_ok=True)
    return in_use


def _store_files(store: Path) -> Iterator[Path]:
    """Yield a store's files, and remove the unfinished ones, which killed processes left."""
    for path in store.glob(f"*{_SUFFIX}*"):
        if path.name.endswith(_SUFFIX):
            yield path
        else:
            path.unlink(missing_ok=True)


def _read_shard(path: Path) -> tuple[Tensor, Tensor] | None:
    """Return the keys and the mapped values of a file, or None if it is damaged or was just removed."""
    try:
        with safe_open(path, framework="pt") as file:
            keys, values = file.get_tensor("keys"), file.get_tensor("values")
            expected = (file.metadata() or {}).get("crc32")
    except (SafetensorError, OSError):
        return None
    return (keys, values) if expected == str(tensor_checksum(keys, values)) else None
