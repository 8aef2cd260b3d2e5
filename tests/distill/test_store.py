"""Where a cache's entries are: whole files within a budget, whatever other processes do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from compresskit.distill.cache.store import CacheFolder, Store


@pytest.fixture
def shelf(tmp_path):
    return CacheFolder(tmp_path, 10**6)


def store_on(shelf, name="a", length=4, limit=10**6):
    return Store(torch.Size([length]), torch.float32, limit, shelf.place(name * 32))


def filled(shelf, name, length=1000, key=(0, 0, 0)):
    """A closed store with one file."""
    store = store_on(shelf, name, length)
    store.put([key], torch.zeros(1, length))
    store.close()
    return store


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.name != ".lock")


def test_a_store_keeps_no_more_than_its_limit_and_ignores_damaged_files(shelf):
    store = store_on(shelf, limit=32)
    values = torch.arange(12.0).reshape(3, 4)
    store.put([(0, 0, 0), (1, 0, 0), (2, 0, 0)], values)
    assert (len(store), store.bytes) == (2, 32)
    store.flush()
    place = store.place.folder
    (whole,) = place.iterdir()
    content = whole.read_bytes()
    whole.unlink()
    (place / "damaged.safetensors").write_bytes(b"no tensors")
    (place / "cut.safetensors").write_bytes(content[:-5])
    (place / "flipped.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert store_on(shelf).take([(1, 0, 0), (0, 0, 0)]) is None
    (place / "whole.safetensors").write_bytes(content)
    other = store_on(shelf)
    assert torch.equal(other.take([(1, 0, 0), (0, 0, 0)]), values[[1, 0]])
    assert other.take([(2, 0, 0)]) is None


WRITER = """
import os, sys, torch
from pathlib import Path
from compresskit.distill.cache.fingerprints import model_fingerprint
from compresskit.distill.cache.store import CacheFolder
from compresskit.distill.cache.store import Store
if "killed" in sys.argv:
    os.fsync = lambda file: os._exit(9)  # in the middle of writing
store = Store(torch.Size([4]), torch.float32, 10**6, CacheFolder(Path(sys.argv[1]), 10**6).place("a" * 32))
store.put([(7, 0, 0)], torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
store.close()
"""


def written_elsewhere(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", WRITER, str(folder), *arguments]
    return subprocess.run(command, env=environment, timeout=60, check=False).returncode


def test_what_another_process_writes_is_found_unless_it_was_killed_while_writing(shelf):
    store = store_on(shelf)
    assert store.take([(7, 0, 0)]) is None
    assert written_elsewhere(shelf.folder, "killed") == 9
    (left,) = files(shelf.folder)
    assert left.endswith(".part")
    assert store.take([(7, 0, 0)]) is None
    assert written_elsewhere(shelf.folder) == 0
    assert store.take([(7, 0, 0)]).tolist() == [[1.0, 2.0, 3.0, 4.0]]
    assert len(files(shelf.folder)) == 1
    assert left not in files(shelf.folder)


def test_what_another_process_wrote_meanwhile_is_not_written_again(shelf):
    store = store_on(shelf)
    store.put([(7, 0, 0)], torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    written_elsewhere(shelf.folder)
    store.flush()
    assert len(files(shelf.folder)) == 1


def test_room_is_made_by_removing_what_was_unused_the_longest_and_nothing_of_other_people(tmp_path):
    shelf = CacheFolder(tmp_path, 16_000)
    for age, name in enumerate("cba"):
        filled(shelf, name)
        os.utime(tmp_path / (name * 32), (1000 + age, 1000 + age))
    (tmp_path / "notes.safetensors").write_bytes(b"x" * 9000)
    filled(shelf, "d")
    left = {path.name for path in tmp_path.iterdir() if path.is_dir() and list(path.glob("*.safetensors"))}
    assert left == {"a" * 32, "b" * 32, "d" * 32}
    assert (tmp_path / "notes.safetensors").exists()


def test_what_a_living_run_uses_stays_and_what_finds_no_room_stays_in_memory(tmp_path):
    shelf = CacheFolder(tmp_path, 6000)
    held = store_on(shelf, "a", 1000)
    held.put([(0, 0, 0)], torch.zeros(1, 1000))
    held.flush()
    late = store_on(shelf, "b", 1000)
    late.put([(0, 0, 0)], torch.ones(1, 1000))
    late.flush()
    assert late.full
    assert late.take([(0, 0, 0)]).sum() == 1000
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors")) <= 6000
    held.close()
    late.close()
    assert not late.full
    assert [path.parent.name for path in tmp_path.rglob("*.safetensors")] == ["b" * 32]


def test_entries_of_other_data_under_the_same_numbers_make_room(tmp_path):
    shelf = CacheFolder(tmp_path, 6000)
    filled(shelf, "a", key=(3, 0, 1))
    filled(shelf, "a", key=(3, 0, 2))
    fresh = store_on(shelf, "a", 1000)
    assert fresh.take([(3, 0, 1)]) is None
    assert fresh.take([(3, 0, 2)]) is not None


def test_a_disk_that_takes_nothing_ends_no_run(shelf, monkeypatch):
    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("compresskit.distill.cache.store.write_atomically", no_space)
    store = filled(shelf, "a")
    assert store.full
    assert len(store) == 1
