"""A folder of stores that all the processes that use it keep, together, within a budget."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from compresskit.errors import RecipeError

try:
    import fcntl
except ImportError:  # Windows: without locks, processes that write at the same time may pass the budget by a file each
    fcntl = None

ENDING = ".safetensors"


class Shelf:
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
            raise RecipeError(f"cache: the folder {str(folder)!r} cannot be written: {error.strerror}") from None

    def place(self, name: str) -> "Place":
        """The place of one store, in use until it is closed; a name has 32 characters."""
        return Place(self, self.folder / name)

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


class Place:
    """Where the files of one store are. While it is open, no other process removes them."""

    def __init__(self, shelf: Shelf, folder: Path) -> None:
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
