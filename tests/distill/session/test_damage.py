"""Damaged files in a run's folder: each is noticed, named and replaced by what is whole."""

import errno
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from compresskit import Match, ProgressiveDistiller, Stage
from compresskit.errors import CheckpointError

pytestmark = pytest.mark.usefixtures("frequent_checkpoints")


@pytest.fixture
def fit(teacher, net, batches, tmp_path):
    """A function that runs or continues one and the same run of six steps, by default in `tmp_path / "run"`."""

    def fit(loader=batches, folder="run", **how):
        stages = [Stage("first", matches=[Match("1")], steps=2), Stage("second", matches=[Match(".")], steps=4)]
        return ProgressiveDistiller(teacher, net(4, seed=2), stages, out=tmp_path / folder).fit(loader, **how)

    return fit


@pytest.fixture
def stopped(fit, batches, tmp_path, failing_loader):
    """The folder of a run that was stopped after five steps."""
    with pytest.raises(SystemExit):
        fit(failing_loader(batches, 6))
    return tmp_path / "run"


@pytest.fixture
def same_as_whole(fit, tmp_path):
    """A function that returns whether the run ended with the weights of one that nothing disturbed."""

    def same_as_whole():
        fit(folder="whole")
        whole, run = (load_file(tmp_path / name / "student.safetensors") for name in ("whole", "run"))
        return whole.keys() == run.keys() and all(tensor.equal(run[name]) for name, tensor in whole.items())

    return same_as_whole


def flip(path, position, bit=3):
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] ^= 1 << bit
    path.write_bytes(content)


def newest(folder):
    return max((folder / "checkpoints").glob("*.pt"))


def text(path):
    path.write_text("<html>not found</html>")


def nothing(path):
    path.write_bytes(b"")


def bare_tensor(path):
    torch.save(torch.zeros(3), path)


def foreign_mapping(path):
    torch.save({"state_dict": {"weight": torch.zeros(3)}}, path)


def object_of_a_class(path):
    torch.save(torch.nn.Linear(2, 2), path)


def folder_in_its_place(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage",
    [
        text,
        nothing,
        bare_tensor,
        foreign_mapping,
        object_of_a_class,
        *(lambda path, position=position: flip(path, position) for position in (0.3, 0.5, 0.7)),
    ],
)
def test_a_damaged_or_foreign_checkpoint_is_named_and_the_one_before_it_continues_the_run(
    fit, stopped, same_as_whole, capsys, damage
):
    damage(newest(stopped))
    capsys.readouterr()
    fit()
    notes = capsys.readouterr().err
    assert f"{stopped / 'checkpoints' / '00000005-001.pt'} cannot be read (" in notes
    assert "weights_only" not in notes
    assert same_as_whole()


def test_no_flipped_bit_in_a_checkpoint_changes_the_end(fit, stopped, same_as_whole):
    before = {path.name: path.read_bytes() for path in (stopped / "checkpoints").iterdir()}
    for number in range(8):
        for name, content in before.items():
            (stopped / "checkpoints" / name).write_bytes(content)
        flip(stopped / "checkpoints" / "00000005-001.pt", (number + 0.5) / 8, bit=number)
        result = fit()
        assert len(result.history) == 6
        assert same_as_whole()


def test_a_checkpoint_without_the_log_s_checksum_continues_as_before(fit, stopped, same_as_whole, capsys):
    path = newest(stopped)
    state = torch.load(path, weights_only=True)
    del state["log_crc32"]
    torch.save(state, path)
    fit()
    assert "damaged" not in capsys.readouterr().err
    assert same_as_whole()


def test_a_damaged_checkpoint_never_stays_in_the_place_of_a_whole_one(fit, stopped, batches, failing_loader):
    text(newest(stopped))
    (stopped / "checkpoints" / "00000009-001.pt.part").write_bytes(b"left by a killed process")
    with pytest.raises(SystemExit):
        fit(failing_loader(batches, 6))  # the fifth step again
    assert [path.name for path in sorted((stopped / "checkpoints").iterdir())] == ["00000004-001.pt", "00000005-001.pt"]
    torch.load(newest(stopped), weights_only=True)


@pytest.mark.parametrize("old", [False, True])
def test_unreadable_lines_of_the_log_are_named_and_the_others_stay(fit, stopped, same_as_whole, capsys, old):
    if old:
        state = torch.load(newest(stopped), weights_only=True)
        torch.save({key: value for key, value in state.items() if key != "log_crc32"}, newest(stopped))
    path = stopped / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = b"\xff\xfe" + lines[1][2:]
    path.write_bytes(b"".join(lines))
    result = fit()
    notes = capsys.readouterr().err
    assert f"{path} is damaged: 4 of its 5 records can be read, and stay" in notes
    assert [record["global_step"] for record in result.history] == [0, 2, 3, 4, 5]
    assert (stopped / "metrics.damaged.jsonl").read_bytes().startswith(b"".join(lines[:5]))
    assert same_as_whole()


def test_a_changed_figure_in_the_log_is_noticed(fit, stopped, capsys):
    path = stopped / "metrics.jsonl"
    path.write_text(path.read_text().replace('"step": 1', '"step": 0'))
    assert len(fit().history) == 6
    assert f"{path} is damaged: 5 of its 5 records can be read" in capsys.readouterr().err


def test_a_missing_log_is_named_and_begins_again(fit, stopped, same_as_whole, capsys):
    (stopped / "metrics.jsonl").unlink()
    assert [record["global_step"] for record in fit().history] == [5]
    assert "metrics.jsonl is missing: the records of the first 5 steps are lost" in capsys.readouterr().err
    assert same_as_whole()


def test_a_log_that_is_no_file_is_set_aside(fit, stopped, same_as_whole, capsys):
    folder_in_its_place(stopped / "metrics.jsonl")
    assert len(fit().history) == 1
    assert "metrics.jsonl is damaged: 0 of its 5 records can be read" in capsys.readouterr().err
    assert same_as_whole()


@pytest.mark.parametrize("damage", [text, nothing, lambda path: flip(path, 0.9), lambda path: path.unlink()])
def test_damaged_weights_of_a_finished_run_are_written_again(fit, tmp_path, same_as_whole, capsys, damage):
    fit()
    damage(tmp_path / "run" / "student.safetensors")
    fit()
    assert "it is written again from the checkpoint" in capsys.readouterr().err
    assert same_as_whole()


def test_weights_without_a_checksum_are_whole(fit, tmp_path, capsys):
    fit()
    path = tmp_path / "run" / "student.safetensors"
    save_file(load_file(path), path)
    before = path.read_bytes()
    fit()
    assert "written again" not in capsys.readouterr().err
    assert path.read_bytes() == before


class ReadOnly:
    """A file system on which nothing can be opened for writing, as far as a run's folder is concerned."""

    def __init__(self, monkeypatch):
        from pathlib import Path

        from filelock import BaseFileLock

        opened = Path.open

        def refuse(path, mode="r", *arguments, **options):
            if "r" in mode and "+" not in mode:
                return opened(path, mode, *arguments, **options)
            raise OSError(errno.EROFS, "Read-only file system", str(path))

        def refuse_lock(*_, **__):
            raise OSError(errno.EROFS, "Read-only file system")

        monkeypatch.setattr(Path, "open", refuse)
        monkeypatch.setattr(BaseFileLock, "acquire", refuse_lock)


def test_a_finished_run_on_a_read_only_file_system_is_returned(fit, monkeypatch, capsys):
    first = fit()
    ReadOnly(monkeypatch)
    second = fit(resume=True)
    assert second.history == first.history
    assert "cannot be written (Read-only file system), so it is not locked" in capsys.readouterr().err


def test_a_stopped_run_on_a_read_only_file_system_is_refused_in_one_line(fit, stopped, monkeypatch):
    ReadOnly(monkeypatch)
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl cannot be written \(Read-only file system\)") as refusal:
        fit()
    assert "\n" not in str(refusal.value)
    assert json.loads((stopped / "metrics.jsonl").read_text().splitlines()[0])["global_step"] == 0
