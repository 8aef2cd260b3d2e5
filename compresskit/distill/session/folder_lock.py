"""One run a folder: a lock that names the process which holds it.

The lock is the system's own (`flock`), so it ends with its process, however that ends. Where a file system has none, a
file that exists stands for it; it is taken over if the process in it is dead on this machine.
"""

import errno
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from compresskit.distill.processes import Processes
from compresskit.errors import CheckpointError

LOCK_FILE = ".lock"
MARKER_FILE = ".lock.held"
"""The file that stands for a lock."""

OWNER_FILE = ".owner.json"
"""The process that holds the lock; a lock file itself cannot be read everywhere."""

LOCK_FILES = (OWNER_FILE, LOCK_FILE, MARKER_FILE)

WAIT_SECONDS = 1.0
"""Longest wait for a process that is about to end."""

_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def locked_folder(folder: Path, processes: Processes, note: Callable[[str], None] | None = None) -> Iterator[None]:
    """Keep other runs out of a folder inside the block, which is created if necessary.

    Of several processes of one run the main one takes the lock. The same process may take it again inside the block.

    Args:
        folder: The folder of the run.
        processes: The processes of the run.
        note: Function that receives a line of text about a folder that cannot be written, and so is not locked; None
            refuses such a folder.

    Raises:
        CheckpointError: Another process has the lock, or there can be no such folder.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    lock = None
    with processes.main_first():
        if processes.is_main:
            lock = _lock(folder, note)
    try:
        yield
    finally:
        if lock is not None:
            _release(lock, folder)
            for path in missing:  # a run that could not begin leaves nothing behind
                with suppress(OSError):
                    path.rmdir()


def _lock(folder: Path, note: Callable[[str], None] | None) -> BaseFileLock | None:
    """Return the lock, acquired; None where an outer block has it, or where the folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be made a folder: {error.strerror}") from None
    for kind, name in ((FileLock, LOCK_FILE), (SoftFileLock, MARKER_FILE)):
        lock = kind(folder.resolve() / name, is_singleton=True)
        if lock.is_locked:
            return None
        try:
            _acquire(lock, folder)
        except OSError as error:
            if error.errno in _READ_ONLY:
                return _leave_unlocked(f"{folder} cannot be written ({error.strerror})", note)
            if error.errno not in _NO_LOCKS or kind is SoftFileLock:
                raise
        else:
            return lock
    return None


def _acquire(lock: BaseFileLock, folder: Path) -> None:
    try:
        lock.acquire(timeout=WAIT_SECONDS, poll_interval=0.05)
    except Timeout:
        raise CheckpointError(_refusal(folder, soft=isinstance(lock, SoftFileLock))) from None
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now(UTC).isoformat(" ", "seconds")}
    with suppress(OSError):  # it is for the message only
        (folder / OWNER_FILE).write_text(json.dumps(owner), encoding="utf-8")


def _leave_unlocked(reason: str, note: Callable[[str], None] | None) -> None:
    if note is None:
        raise CheckpointError(f"{reason}, so no run can go on there")
    note(f"{reason}, so it is not locked")


def _release(lock: BaseFileLock, folder: Path) -> None:
    for name in (OWNER_FILE, LOCK_FILE):
        with suppress(OSError):  # removed while it is held: whoever waits for it notices that it is gone
            (folder / name).unlink()
    lock.release()


def _refusal(folder: Path, *, soft: bool) -> str:
    try:
        owner = json.loads((folder / OWNER_FILE).read_text(encoding="utf-8"))
        text = f"process {owner['pid']} on {owner['host']} (since {owner['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        text = "another process"
    advice = f"\nIf that process is dead, remove {folder / MARKER_FILE}." if soft else ""
    return f"{folder} is in use by {text}; wait until it ends, or give another folder{advice}"
