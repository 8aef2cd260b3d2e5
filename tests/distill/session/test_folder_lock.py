"""One run a folder: who holds the lock, who is refused, and what is left behind."""

import errno
import os
import re
import socket
import subprocess
import sys
import threading
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from compresskit import ProgressiveDistiller, Stage, Task
from compresskit.distill.processes import Processes
from compresskit.distill.session import folder_lock
from compresskit.distill.session.folder_lock import locked_folder
from compresskit.errors import CheckpointError

HOLDER = """
import sys, time
from pathlib import Path
from compresskit.distill.processes import Processes
from compresskit.distill.session.folder_lock import locked_folder

with locked_folder(Path(sys.argv[1]), Processes(), print):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _no_wait(monkeypatch):
    monkeypatch.setattr(folder_lock, "WAIT_SECONDS", 0.1)


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of `tmp_path / "run"`."""
    command = [sys.executable, "-c", HOLDER, tmp_path / "run"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def lock(folder, processes=None, note=pytest.fail):
    return locked_folder(folder, processes or Processes(), note)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_second_run_is_refused_and_told_which_process_on_which_machine_has_the_folder(tmp_path, holder):
    stage = Stage("s", tasks=[Task("cross_entropy")], steps=1)
    distiller = ProgressiveDistiller(None, nn.Linear(3, 3), [stage], out=tmp_path / "run", device="cpu")
    batches = [(torch.randn(2, 3), torch.tensor([0, 1]))]
    refusal = rf"run is in use by process {holder.pid} on {socket.gethostname()} \(since 20..-..-.. .*\); wait until"
    with pytest.raises(CheckpointError, match=refusal):
        distiller.fit(batches)
    assert names(tmp_path / "run") == [".lock", ".owner.json"]
    holder.kill()
    holder.wait()
    assert len(distiller.fit(batches).history) == 1
    assert not {".lock", ".owner.json"} & set(names(tmp_path / "run"))


def test_another_thread_of_the_same_process_is_refused(tmp_path):
    errors = []

    def attempt():
        try:
            with lock(tmp_path):
                pass
        except CheckpointError as error:
            errors.append(str(error))

    with lock(tmp_path):
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
    (error,) = errors
    assert f"in use by process {os.getpid()}" in error


def test_a_block_inside_a_block_keeps_the_lock_for_the_outer_one(tmp_path):
    with lock(tmp_path):
        with lock(tmp_path):
            pass
        assert names(tmp_path) == [".lock", ".owner.json"]
    assert names(tmp_path) == []


def test_a_run_that_fails_before_it_writes_leaves_no_folder(tmp_path):
    with pytest.raises(RuntimeError, match="mistake"), lock(tmp_path / "runs" / "x"):
        raise RuntimeError("mistake")
    assert names(tmp_path) == []


def test_only_the_main_process_takes_the_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(Processes, "main_first", lambda _: nullcontext())
    with lock(tmp_path, Processes(rank=1, count=2)):
        assert names(tmp_path) == []


def no_locks(*_):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


WITHOUT_LOCKS = f"import fcntl\ndef no(*_): raise OSError({errno.ENOLCK}, 'no locks')\nfcntl.flock = no\n"


def test_a_file_stands_for_the_lock_where_there_is_none_and_is_taken_over_from_a_dead_process(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(fcntl, "flock", no_locks)
    monkeypatch.setattr(folder_lock, "WAIT_SECONDS", 0.5)
    command = [sys.executable, "-c", WITHOUT_LOCKS + HOLDER, tmp_path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "locked\n"
        refusal = f"in use by process {process.pid} on .*\n.*remove {re.escape(str(tmp_path / '.lock.held'))}"
        with pytest.raises(CheckpointError, match=refusal), lock(tmp_path):
            pass
        process.kill()
    assert ".lock.held" in names(tmp_path)
    monkeypatch.setattr(folder_lock, "WAIT_SECONDS", 10.0)
    with lock(tmp_path):
        assert str(os.getpid()) in (tmp_path / ".owner.json").read_text()
    assert names(tmp_path) == []


def test_a_file_in_the_folder_s_place_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be made a folder"), lock(tmp_path / "file"):
        pass
