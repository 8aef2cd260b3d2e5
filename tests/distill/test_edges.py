"""Corners that a first version got wrong."""

import os
import signal

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import Dataset

from compresskit import DataError, Match, ProgressiveDistiller, RecipeError, Stage, TapError, Task
from compresskit.data import SampleLoader, endless

BATCHES = [(torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))]


class Counts(nn.Module):
    """Counts its calls in a buffer that each forward replaces, in any mode."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x):
        self.calls = self.calls + 1
        return self.linear(x)


def test_terms_at_one_counted_call_are_both_kept():
    assert len(Stage("s", matches=[Match("a#0"), Match("a#0", weight=5)], steps=1).terms) == 2


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


def test_what_lies_behind_the_last_tap_may_fail():
    class Boom(nn.Module):
        def forward(self, _):
            raise ZeroDivisionError

    stage = Stage("s", matches=[Match("0")], steps=1)
    model, teacher = (nn.Sequential(nn.Linear(3, 3), Boom()) for _ in range(2))
    ProgressiveDistiller(teacher, model, [stage]).fit(BATCHES)


def test_buffers_that_a_forward_replaces_are_put_back_on_teacher_and_frozen_student_parts():
    teacher, student = Counts(), nn.Sequential(Counts(), nn.Linear(3, 3))
    distiller = ProgressiveDistiller(teacher, student, [Stage("s", matches=[Match(".")], train=["1.*"], steps=2)])
    buffer = student[0].calls
    distiller.plan(BATCHES[0])
    distiller.fit(BATCHES)
    assert teacher.calls == 0
    assert student[0].calls == 0
    assert student[0].calls is buffer


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_gradient_checkpointing_may_run_a_tapped_module_again():
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.Linear(3, 3)

        def forward(self, x):
            return checkpoint(self.block, x, use_reentrant=False)

    stage = Stage("s", matches=[Match("block"), Match(".")], steps=1)
    ProgressiveDistiller(Checkpointed(), Checkpointed(), [stage]).fit(BATCHES)


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


class Damaged(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        raise DataError("photo.png cannot be read")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_worker_is_one_line(workers):
    with pytest.raises(DataError) as caught:
        next(endless(SampleLoader(Damaged(), 2, workers=workers), 0, 0))
    assert str(caught.value) == "photo.png cannot be read"


@pytest.mark.parametrize(("loader", "message"), [([], "val_loader is empty"), (iter(BATCHES), "walked only once")])
def test_validation_data_that_cannot_serve_every_stage_is_refused_before_training(loader, message):
    student = nn.Linear(3, 3)
    before = student.weight.clone()
    with pytest.raises(DataError, match=message):
        ProgressiveDistiller(None, student, [Stage("s", tasks=[Task("cross_entropy")], steps=1)]).fit(
            BATCHES, val_loader=loader
        )
    assert torch.equal(student.weight, before)


def test_a_schedule_for_an_option_of_a_class_is_refused():
    with pytest.raises(RecipeError, match="beta cannot follow a schedule"):
        Match("a", loss=nn.SmoothL1Loss, beta={"schedule": "linear", "start": 1.0, "end": 0.5})


def test_a_keyword_that_forward_takes_as_kwargs_is_a_tap():
    class Block(nn.Module):
        def forward(self, x, **more):
            return x + more["mask"]

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.block = nn.Linear(3, 3), Block()

        def forward(self, x):
            return self.block(x, mask=self.linear(x))

    ProgressiveDistiller(Model(), Model(), [Stage("s", matches=[Match("block@in.mask")], steps=1)]).fit(BATCHES)


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
