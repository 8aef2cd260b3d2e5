"""A run whose files are damaged, and one that a second process wants: nothing is lost, and the damage is named."""

import json
import os
import threading
from pathlib import Path

import pytest

from compresskit.distill.processes import Processes
from compresskit.distill.session.folder_lock import locked_folder
from compresskit.errors import CheckpointError
from compresskit.recipe.building.trained_model import load_model
from compresskit.recipe.running import run as running
from compresskit.recipe.running.run import run_recipe

CHANGES = ["control=false", "stages.1.steps=2"]


@pytest.fixture
def finished(toy):
    assert toy.exists()
    run_recipe(toy, out="x", overrides=CHANGES)
    return Path("x")


@pytest.fixture
def unfinished(finished):
    """A run of which only the table is missing."""
    (finished / "summary.json").unlink()
    return finished


def resume():
    return run_recipe("toy.yaml", out="x", overrides=CHANGES, resume=True)


def flip(path, position=0.5, bit=0):
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] ^= 1 << bit
    path.write_bytes(content)


def text(path):
    path.write_text("<html>")


@pytest.mark.parametrize("damage", [flip, text, lambda path: path.write_text("[3]")])
def test_a_damaged_record_of_the_environment_is_set_aside(unfinished, capsys, damage):
    damage(unfinished / "environment.json")
    damaged = (unfinished / "environment.json").read_bytes()
    resume()
    assert "environment.json is damaged: it is now environment.damaged.json" in capsys.readouterr().err
    assert (unfinished / "environment.damaged.json").read_bytes() == damaged
    assert len(json.loads((unfinished / "environment.json").read_text())) == 1


def test_a_record_without_a_checksum_is_whole(unfinished, capsys):
    for name in ("environment.json", "evaluation.json"):
        records = json.loads((unfinished / name).read_text())
        assert all(record.pop("crc32") for record in records)
        (unfinished / name).write_text(json.dumps(records))
    resume()
    assert "damaged" not in capsys.readouterr().err
    assert len(json.loads((unfinished / "environment.json").read_text())) == 2


@pytest.mark.parametrize("damage", [flip, text])
def test_a_damaged_solution_is_solved_again(unfinished, monkeypatch, capsys, damage):
    whole = (unfinished / "fitted.safetensors").read_bytes()
    damage(unfinished / "fitted.safetensors")
    solved, solve = [], running.fit_to_data
    monkeypatch.setattr(running, "fit_to_data", lambda *how: solved.append(how) or solve(*how))
    resume()
    assert len(solved) == 1
    assert "it is solved again" in capsys.readouterr().err
    assert (unfinished / "fitted.safetensors").read_bytes() == whole


def test_a_damaged_row_is_measured_again_and_the_others_are_not(unfinished, monkeypatch, capsys):
    path = unfinished / "evaluation.json"
    whole = path.read_text()
    rows = json.loads(whole)
    rows[1]["metrics"]["score"] += 1.0
    path.write_text(json.dumps(rows))
    measured, measure = [], running.measure.__globals__["_row"]
    monkeypatch.setitem(
        running.measure.__globals__, "_row", lambda c, *how: measured.append(c.name) or measure(c, *how)
    )
    resume()
    assert measured == [rows[1]["name"]]
    assert f"{path} is damaged: {len(rows) - 1} rows of it can be used" in capsys.readouterr().err
    assert json.loads(path.read_text()) == json.loads(whole)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("student.safetensors", flip),
        ("teacher/student.safetensors", text),
        ("fitted.safetensors", flip),
        ("summary.json", text),
        ("summary.json", lambda path: path.write_text(path.read_text().replace("1", "2"))),
        ("evaluation.json", text),
    ],
)
def test_a_damaged_file_of_a_finished_run_is_written_again(finished, capsys, file, damage):
    whole = (finished / file).read_bytes()
    damage(finished / file)
    resume()
    assert f"{finished / file} is damaged" in capsys.readouterr().err
    assert (finished / file).read_bytes() == whole
    resume()
    assert "x is finished already" in capsys.readouterr().err


def test_damage_of_a_finished_run_without_checkpoints_is_named_and_nothing_is_trained(finished, monkeypatch, capsys):
    for path in finished.rglob("checkpoints/*"):
        path.unlink()
    flip(finished / "student.safetensors")
    monkeypatch.setattr(running, "build_components", lambda *_: pytest.fail("built again"))
    resume()
    notes = capsys.readouterr().err
    assert "student.safetensors is damaged" in notes
    assert "x has no checkpoints to write that again from" in notes


def test_damaged_weights_are_not_loaded(finished):
    flip(finished / "student.safetensors", 0.95)
    with pytest.raises(
        CheckpointError, match=r"student\.safetensors is damaged.*: its checksum is not that of its tensors"
    ):
        load_model(finished)


@pytest.mark.parametrize("damage", [lambda path: path.write_text(path.read_text().replace("seed: 3", "seed: 2")), text])
def test_a_damaged_recipe_is_set_aside_for_the_one_of_the_call(unfinished, capsys, damage):
    path = unfinished / "recipe.yaml"
    last = path.read_text().splitlines()[-1]
    damage(path)
    if damage is text:  # a file that was cut off has no checksum, and may be any other recipe's
        with pytest.raises(CheckpointError, match=r"holds no run that could be continued|another recipe's run"):
            resume()
        path.write_text(f"<html>\n{last}\n")
    resume()
    notes = capsys.readouterr().err
    assert f"{path} is not as the run wrote it: it is damaged, or was edited; it is now recipe.damaged.yaml" in notes
    assert "seed: 3" in path.read_text()
    assert (unfinished / "recipe.damaged.yaml").exists()


def test_a_recipe_that_was_edited_is_named_where_it_is_read(finished, capsys):
    path = finished / "recipe.yaml"
    path.write_text(path.read_text().replace("batch_size: 8", "batch_size: 9"))
    load_model(finished)
    assert "recipe.yaml is not as the run wrote it" in capsys.readouterr().err


def test_a_second_run_in_the_folder_is_refused(unfinished):
    locked, done = threading.Event(), threading.Event()

    def hold():
        with locked_folder(unfinished, Processes()):
            locked.set()
            done.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    assert locked.wait(10)
    with pytest.raises(CheckpointError, match=f"x is in use by process {os.getpid()} on "):
        resume()
    done.set()
    holder.join()
    resume()
    assert (unfinished / "summary.json").exists()


def test_auto_resume_starts_a_run_and_goes_on_with_it(toy, monkeypatch):
    def run(out):
        return run_recipe(toy, out=out, overrides=CHANGES, resume="auto").folder

    assert run("new") == Path("new")
    assert run(None) == run(None) == Path("runs/toy")
    monkeypatch.setattr(running, "build_components", lambda *_: pytest.fail("built again"))
    assert run("new") == Path("new")
