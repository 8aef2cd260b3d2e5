"""The parameters and running statistics that change in a stage, and those that do not."""

import torch
from torch import nn

from compresskit import Match, ProgressiveDistiller, Stage, Task, curricula


def test_only_declared_parameters_and_their_statistics_change(teacher, student, batches, state, changed):
    before = state(student)
    ProgressiveDistiller(teacher, student, [Stage("s", matches=[Match("3")], train=["3.*"], steps=3)]).fit(batches)
    assert changed(before, student) == {"3.weight", "3.bias"}


def test_upstream_trains_everything_that_feeds_the_match_and_a_plan_trains_nothing(
    teacher, student, batches, state, changed
):
    stages = curricula.progressive([Match("1"), Match("3"), Match(".")], steps=2, mode="isolated")
    before = state(student)
    ProgressiveDistiller(teacher, student, stages[:1]).fit(batches)
    statistics = {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    # a bias before batch norm has no effect, so its gradient may be exactly zero
    assert changed(before, student) - {"0.bias"} == {"0.weight", "1.weight", "1.bias"} | statistics
    before = state(student)
    ProgressiveDistiller(teacher, student, [stages[0], stages[1]]).fit(batches)
    between = state(student)
    ProgressiveDistiller(teacher, student, [stages[1]]).plan(batches[0])
    assert changed(between, student) == set()


def test_between_leaves_the_earlier_block_alone(teacher, student, batches, state):
    first, second, _ = curricula.progressive([Match("1"), Match("3"), Match(".")], steps=2, mode="isolated")
    snapshots = []
    ProgressiveDistiller(teacher, student, [first, second]).fit(
        batches, evaluate=lambda model: snapshots.append(state(model)) or {}
    )
    assert {name for name in snapshots[0] if not torch.equal(snapshots[0][name], snapshots[1][name])} == {
        "3.weight",
        "3.bias",
    }


def test_between_leaves_the_statistics_of_an_earlier_norm_without_parameters_alone():
    model = nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4, affine=False), nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False)
    )
    teacher = nn.Sequential(nn.Linear(3, 4), nn.Identity(), nn.Linear(4, 4), nn.Identity())
    snapshots = []
    stages = [
        Stage("first", matches=[Match("1")], train="between", steps=2),
        Stage("second", matches=[Match("3")], train="between", steps=2),
    ]
    ProgressiveDistiller(teacher, model, stages).fit(
        [(torch.randn(4, 3), None)],
        evaluate=lambda m: snapshots.append({n: b.clone() for n, b in m.named_buffers()}) or {},
    )
    assert torch.equal(snapshots[0]["1.running_mean"], snapshots[1]["1.running_mean"])
    assert not torch.equal(snapshots[0]["3.running_mean"], snapshots[1]["3.running_mean"])


def test_parameters_that_the_user_froze_stay_frozen(teacher, student, batches, state, changed):
    student[0].weight.requires_grad_(requires_grad=False)
    before = state(student)
    ProgressiveDistiller(teacher, student, [Stage("s", matches=[Match(".")], steps=2)]).fit(batches)
    assert "0.weight" not in changed(before, student)
    assert not student[0].weight.requires_grad


def test_a_norm_without_parameters_outside_the_declared_names_keeps_its_statistics(batches, state, changed):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, affine=False), nn.Conv2d(4, 2, 1))
    before = state(model)
    stage = Stage(
        "s", tasks=[Task("mse", target=lambda y: y.new_zeros(len(y), 2, 8, 8).float())], train=["2.*"], steps=2
    )
    ProgressiveDistiller(None, model, [stage]).fit(batches)
    assert changed(before, model) == {"2.weight", "2.bias"}
