"""A store of tensors by key: in memory, or in a folder of files that are mapped into memory. Files hold data only."""

import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from compresskit.errors import RecipeError
from compresskit.files import write_atomically

Key = tuple[int, int, int]
"""Sample, variant, and the checksum of what the teacher was given."""


ENDING = ".safetensors"


class CacheFolder:
    """Folders for stores, whose files take no more than the budget at any time.

    What was unused the longest makes room for what is new; a store that a living process uses stays. Nothing else in
    the folder is counted or touched.

    Args:
        folder: Made if it is not there.
        budget: In bytes.

    Raises:
        RecipeError: The folder cannot be written.
    """

    def __init__(self, folder: Path, budget: int) -> None:
        self.folder, self.budget = folder, budget
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self.alone():
                pass
        except OSError as error:
            raise RecipeError(
                f"cache: the folder {str(folder)!r} cannot be written: {error.strerror}", path=("cache", "folder")
            ) from None

    def place(self, name: str) -> "StoreFolder":
        """The place of one store, in use until it is closed; a name has 32 characters."""
        return StoreFolder(self, self.folder / name)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside, no other process writes or removes files. The system ends it with the process, however that ends."""
        with (self.folder / ".lock").open("a") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def has_room(self, size: int, old: Iterable[Path] = ()) -> bool:
        """Whether `size` bytes fit in; if need be, `old` files and then unused stores are removed. Inside `alone`."""
        places = [path for path in self.folder.iterdir() if path.is_dir() and len(path.name) == 32]
        files = {path: path.stat().st_size for place in places for path in _files(place)}
        room = self.budget - sum(files.values()) - size
        unused = sorted(filter(_unused, places), key=lambda place: place.stat().st_mtime) if room < 0 else []
        for path in (*old, *(path for place in unused for path in _files(place))):
            if room >= 0:
                break
            path.unlink(missing_ok=True)  # a process that has mapped it keeps its pages
            room += files.pop(path, 0)
        return room >= 0


class StoreFolder:
    """Where the files of one store are. While it is open, no other process removes them."""

    def __init__(self, shelf: CacheFolder, folder: Path) -> None:
        self.shelf, self.folder = shelf, folder
        folder.mkdir(exist_ok=True)
        os.utime(folder)  # what was used last goes last
        self._held = None if fcntl is None else os.open(folder, os.O_RDONLY)
        if fcntl is not None and self._held is not None:
            fcntl.flock(self._held, fcntl.LOCK_SH)

    def close(self) -> None:
        """Let others make room here."""
        if self._held is not None:
            os.close(self._held)
        self._held = None

    def changed(self) -> int:
        """A number that changes when files come or go; 0 where somebody removed the whole place."""
        return self.folder.stat().st_mtime_ns if self.folder.is_dir() else 0

    def files(self) -> list[Path]:
        """All that were written to their end."""
        return sorted(self.folder.glob(f"*{ENDING}"))

    def has_room(self, size: int, old: Callable[[], Iterable[Path]]) -> bool:
        """As the shelf's; `old` tells which files of this place may go, if nobody else uses it. Inside `alone`."""
        if self.shelf.has_room(size):
            return True
        return self._mine() and self.shelf.has_room(size, old())

    def _mine(self) -> bool:
        """Whether no other process has this place open."""
        if fcntl is None or self._held is None:
            return True
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            fcntl.flock(self._held, fcntl.LOCK_SH)
        return True


def _files(place: Path) -> Iterator[Path]:
    """A store's files; first those that a writer left that was killed are removed."""
    for path in place.glob(f"*{ENDING}*"):
        if path.name.endswith(ENDING) or fcntl is None:
            yield path
        else:
            path.unlink(missing_ok=True)


def _unused(place: Path) -> bool:
    """Whether no process has it open."""
    if fcntl is None:
        return True
    held = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(held)
    return True


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
    place: StoreFolder | None = None
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


try:
    import fcntl
except ImportError:  # Windows: without locks, processes that write at the same time may pass the budget by a file each
    fcntl = None
