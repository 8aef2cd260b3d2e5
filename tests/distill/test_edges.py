"""Corners that a first version got wrong."""

import os
import signal

import pytest
import torch
from torch import nn

from compresskit import DataError, Match, ProgressiveDistiller, Stage, TapError, Task

BATCHES = [(torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))]


def test_between_leaves_a_parameterless_norm_before_the_points_alone():
    model = nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4, affine=False), nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False)
    )
    teacher = nn.Sequential(nn.Linear(3, 4), nn.Identity(), nn.Linear(4, 4), nn.Identity())
    seen = []
    stages = [
        Stage("first", matches=[Match("1")], train="between", steps=2),
        Stage("second", matches=[Match("3")], train="between", steps=2),
    ]
    ProgressiveDistiller(teacher, model, stages).fit(
        BATCHES, evaluate=lambda m: seen.append({n: b.clone() for n, b in m.named_buffers()}) or {}
    )
    assert torch.equal(seen[0]["1.running_mean"], seen[1]["1.running_mean"])
    assert not torch.equal(seen[0]["3.running_mean"], seen[1]["3.running_mean"])


def test_ctrl_c_during_the_last_evaluation_is_not_lost(tmp_path, capsys):
    def evaluate(_):
        os.kill(os.getpid(), signal.SIGINT)
        return {}

    distiller = ProgressiveDistiller(
        None, nn.Linear(3, 3), [Stage("s", tasks=[Task("cross_entropy")], steps=1)], out=tmp_path
    )
    with pytest.raises(KeyboardInterrupt):
        distiller.fit(BATCHES, evaluate=evaluate)
    assert "stopped after stage 's'; saved in" in capsys.readouterr().err
    assert len(distiller.fit(BATCHES, resume=True).history) == 1


@pytest.mark.parametrize(("loader", "message"), [([], "val_loader is empty"), (iter(BATCHES), "walked only once")])
def test_validation_data_that_cannot_serve_every_stage_is_refused_before_training(loader, message):
    student = nn.Linear(3, 3)
    before = student.weight.clone()
    with pytest.raises(DataError, match=message):
        ProgressiveDistiller(None, student, [Stage("s", tasks=[Task("cross_entropy")], steps=1)]).fit(
            BATCHES, val_loader=loader
        )
    assert torch.equal(student.weight, before)


class Assisted(nn.Module):
    """With a second head that runs in training mode only."""

    def __init__(self):
        super().__init__()
        self.trunk, self.head, self.second = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x):
        x = self.trunk(x)
        if self.training:
            self.second(x)
        return self.head(x)


def test_a_tap_that_only_training_fills_is_refused_before_training_where_there_is_validation_data():
    student = Assisted()
    before = student.second.weight.clone()
    stage = Stage("s", tasks=[Task("cross_entropy", student="second")], steps=2)
    with pytest.raises(TapError, match=r"'second' captured nothing(.|\n)*This is in eval mode, as for the validation"):
        ProgressiveDistiller(None, student, [stage]).fit(BATCHES, val_loader=BATCHES)
    assert torch.equal(student.second.weight, before)
    ProgressiveDistiller(None, student, [stage]).fit(BATCHES)
    assert not torch.equal(student.second.weight, before)


def test_a_run_on_a_batch_that_was_planned_looks_ahead_no_more():
    def forwards(*planned):
        teacher = nn.Linear(3, 3)
        calls = []
        teacher.register_forward_hook(lambda *_: calls.append(1))
        distiller = ProgressiveDistiller(teacher, nn.Linear(3, 3), [Stage("s", matches=[Match(".")], steps=1)])
        for batch in planned:
            distiller.plan(batch)
        before = len(calls)
        distiller.fit(BATCHES)
        return len(calls) - before

    other = (torch.randn(2, 3), torch.tensor([0, 1]))
    assert forwards(*BATCHES) == 1  # to train
    assert forwards() == forwards(other) == 2  # and one to trace
