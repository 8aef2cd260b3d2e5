"""Stores: complete files within a budget, whatever other processes do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from compresskit.distill.cache.store import CacheFolder, Store


@pytest.fixture
def cache_folder(tmp_path):
    return CacheFolder(tmp_path, 10**6)


def open_store(cache_folder, name="a", length=4, limit=10**6):
    return Store(torch.Size([length]), torch.float32, limit, cache_folder.open_store(name * 32))


def closed_store(cache_folder, name, length=1000, key=(0, 0, 0)):
    """A closed store with one file."""
    store = open_store(cache_folder, name, length)
    store.put([key], torch.zeros(1, length))
    store.close()
    return store


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock"))


def locks(folder):
    return [path for path in folder.glob("*.lock") if path.name != ".lock"]


def stores_with_files(folder):
    return {path.parent.name for path in folder.glob("*/*.safetensors")}


def test_a_store_keeps_no_more_than_its_limit_and_ignores_damaged_files(cache_folder):
    store = open_store(cache_folder, limit=32)
    values = torch.arange(12.0).reshape(3, 4)
    store.put([(0, 0, 0), (1, 0, 0), (2, 0, 0)], values)
    assert (len(store), store.bytes) == (2, 32)
    store.flush()
    folder = store.folder.path
    (file,) = folder.iterdir()
    content = file.read_bytes()
    file.unlink()
    (folder / "damaged.safetensors").write_bytes(b"no tensors")
    (folder / "cut.safetensors").write_bytes(content[:-5])
    (folder / "flipped.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert open_store(cache_folder).get([(1, 0, 0), (0, 0, 0)]) is None
    (folder / "complete.safetensors").write_bytes(content)
    other = open_store(cache_folder)
    assert torch.equal(other.get([(1, 0, 0), (0, 0, 0)]), values[[1, 0]])
    assert other.get([(2, 0, 0)]) is None


WRITER = """
import os, sys, torch
from pathlib import Path
from compresskit.distill.cache.store import CacheFolder, Store
if "killed" in sys.argv:
    os.fsync = lambda file: os._exit(9)  # in the middle of writing
folder = CacheFolder(Path(sys.argv[1]), 10**6).open_store("a" * 32)
store = Store(torch.Size([4]), torch.float32, 10**6, folder)
store.put([(7, 0, 0)], torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
if "open" in sys.argv:
    store.flush()
    print("ready", flush=True)
    sys.stdin.read()
store.close()
"""


def start_writer(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", WRITER, str(folder), *arguments]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def run_writer(folder, *arguments):
    """Write an entry in another process, and return its exit code."""
    with start_writer(folder, *arguments) as process:
        process.communicate(timeout=60)
    return process.returncode


def test_entries_of_another_process_are_found_unless_it_was_killed_while_writing(cache_folder):
    store = open_store(cache_folder)
    assert store.get([(7, 0, 0)]) is None
    assert run_writer(cache_folder.path, "killed") == 9
    (unfinished,) = files(cache_folder.path)
    assert unfinished.endswith(".part")
    assert store.get([(7, 0, 0)]) is None
    assert run_writer(cache_folder.path) == 0
    assert store.get([(7, 0, 0)]).tolist() == [[1.0, 2.0, 3.0, 4.0]]
    assert len(files(cache_folder.path)) == 1
    assert unfinished not in files(cache_folder.path)


def test_entries_that_another_process_wrote_meanwhile_are_not_written_again(cache_folder):
    store = open_store(cache_folder)
    store.put([(7, 0, 0)], torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    run_writer(cache_folder.path)
    store.flush()
    assert len(files(cache_folder.path)) == 1


def test_entries_of_another_process_stay_while_it_lives_and_make_room_once_it_is_killed(tmp_path):
    cache_folder = CacheFolder(tmp_path, 6000)
    with start_writer(tmp_path, "open") as process:
        assert process.stdout.readline() == "ready\n"
        assert closed_store(cache_folder, "b", 1230).full
        assert stores_with_files(tmp_path) == {"a" * 32}
        process.kill()
        process.communicate()
    assert len(locks(tmp_path)) == 1
    assert not closed_store(cache_folder, "b", 1230).full
    assert stores_with_files(tmp_path) == {"b" * 32}
    assert locks(tmp_path) == []


def test_the_stores_unused_for_longest_make_room_and_nothing_of_other_people_does(tmp_path):
    cache_folder = CacheFolder(tmp_path, 16_000)
    for age, name in enumerate("cba"):
        closed_store(cache_folder, name)
        os.utime(tmp_path / (name * 32), (1000 + age, 1000 + age))
    (tmp_path / "notes.safetensors").write_bytes(b"x" * 9000)
    closed_store(cache_folder, "d")
    assert stores_with_files(tmp_path) == {"a" * 32, "b" * 32, "d" * 32}
    assert (tmp_path / "notes.safetensors").exists()


def test_the_entries_of_an_open_store_stay_and_entries_without_room_stay_in_memory(tmp_path):
    cache_folder = CacheFolder(tmp_path, 6000)
    early = open_store(cache_folder, "a", 1000)
    early.put([(0, 0, 0)], torch.zeros(1, 1000))
    early.flush()
    late = open_store(cache_folder, "b", 1000)
    late.put([(0, 0, 0)], torch.ones(1, 1000))
    late.flush()
    assert late.full
    assert late.get([(0, 0, 0)]).sum() == 1000
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors")) <= 6000
    early.close()
    late.close()
    assert not late.full
    assert [path.parent.name for path in tmp_path.rglob("*.safetensors")] == ["b" * 32]


def test_entries_of_other_data_under_the_same_numbers_make_room(tmp_path):
    cache_folder = CacheFolder(tmp_path, 6000)
    closed_store(cache_folder, "a", key=(3, 0, 1))
    closed_store(cache_folder, "a", key=(3, 0, 2))
    fresh = open_store(cache_folder, "a", 1000)
    assert fresh.get([(3, 0, 1)]) is None
    assert fresh.get([(3, 0, 2)]) is not None


def test_a_full_disk_does_not_end_the_run(cache_folder, monkeypatch):
    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("compresskit.distill.cache.store.write_atomically", no_space)
    store = closed_store(cache_folder, "a")
    assert store.full
    assert len(store) == 1
