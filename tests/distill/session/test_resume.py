"""Runs that stop and continue: Ctrl-C, checkpoints, and which run a folder holds."""

import copy
import json
import os
import signal

import pytest
import torch
from torch import nn

from compresskit import Match, ProgressiveDistiller, Stage, Task, curricula
from compresskit.errors import CheckpointError


@pytest.mark.usefixtures("frequent_checkpoints")
@pytest.mark.parametrize("at", [1, 5, 8])
def test_a_stopped_run_continues_to_the_same_weights_and_log(teacher, student, batches, tmp_path, at, failing_loader):
    stages = curricula.progressive(
        [Match("1"), Match(".", loss="kl", weight={"schedule": "cosine", "start": 1.0, "end": 0.5})],
        steps=5,
        tasks=[Task("cross_entropy")],
        scheduler="compresskit.schedules.WarmupCosine",
        accumulate=2,
    )
    undisturbed = copy.deepcopy(student)
    whole = ProgressiveDistiller(teacher, undisturbed, stages, out=tmp_path / "whole").fit(batches)
    start = copy.deepcopy(student)
    with pytest.raises(SystemExit):  # in the middle of a step
        ProgressiveDistiller(teacher, student, stages, out=tmp_path / "part").fit(failing_loader(batches, 2 * at))
    result = ProgressiveDistiller(teacher, start, stages, out=tmp_path / "part").fit(batches, resume=True)
    for name, tensor in undisturbed.state_dict().items():
        assert torch.equal(tensor, result.student.state_dict()[name]), name
    terms = [[record["terms"], record["lr"], record["global_step"]] for record in whole.history]
    assert [[r["terms"], r["lr"], r["global_step"]] for r in result.history] == terms
    lines = (tmp_path / "part" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == result.history


def test_ctrl_c_during_the_last_evaluation_stops_the_run_after_it_is_saved(tmp_path, capsys):
    def evaluate(_):
        os.kill(os.getpid(), signal.SIGINT)
        return {}

    batches = [(torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))]
    stage = Stage("s", tasks=[Task("cross_entropy")], steps=1)
    distiller = ProgressiveDistiller(None, nn.Linear(3, 3), [stage], out=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        distiller.fit(batches, evaluate=evaluate)
    assert "stopped after stage 's'; saved in" in capsys.readouterr().err
    assert len(distiller.fit(batches, resume=True).history) == 1


def test_a_finished_run_is_returned_and_not_trained_again(teacher, student, batches, tmp_path, state, changed):
    stages = [Stage("s", matches=[Match(".")], steps=2)]
    again = copy.deepcopy(student)
    first = ProgressiveDistiller(teacher, student, stages, out=tmp_path).fit(batches, evaluate=lambda _: {"q": 1.0})
    second = ProgressiveDistiller(teacher, again, stages, out=tmp_path).fit([])
    assert second.history == first.history
    assert second.stages == first.stages
    assert changed(state(student), again) == set()


def test_a_run_with_a_damaged_checkpoint_continues_from_the_one_before(
    teacher, student, batches, tmp_path, capsys, net
):
    stages = [Stage("s", matches=[Match(".")], steps=2)]
    ProgressiveDistiller(teacher, student, stages, out=tmp_path).fit(batches)
    newest = max((tmp_path / "checkpoints").glob("*.pt"))
    newest.write_bytes(newest.read_bytes()[:1000])
    assert len(ProgressiveDistiller(teacher, net(4, seed=2), stages, out=tmp_path).fit(batches).history) == 2
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run, _: run.update(stages=[Stage("s", matches=[Match(".")], steps=3)]), "its stages differ"),
        (lambda run, net: run.update(student=net(5, seed=2)), "its student differs"),
        (lambda run, net: run.update(teacher=net(6, seed=9)), "its teacher differs"),
        (lambda run, _: run.update(seed=1), "its seed differs"),
    ],
)
def test_the_folder_of_another_run_is_refused(teacher, student, batches, tmp_path, change, message, net):
    run = {"teacher": teacher, "student": student, "stages": [Stage("s", matches=[Match(".")], steps=2)], "seed": 0}
    ProgressiveDistiller(**run, out=tmp_path).fit(batches)
    change(run, net)
    with pytest.raises(CheckpointError, match=message):
        ProgressiveDistiller(**run, out=tmp_path).fit(batches)


def test_resume_false_refuses_a_used_folder_and_true_an_empty_one(teacher, student, batches, tmp_path):
    distiller = ProgressiveDistiller(teacher, student, [Stage("s", matches=[Match(".")], steps=1)], out=tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint to continue"):
        distiller.fit(batches, resume=True)
    distiller.fit(batches, resume=False)
    with pytest.raises(CheckpointError, match="already holds a run"):
        distiller.fit(batches, resume=False)
