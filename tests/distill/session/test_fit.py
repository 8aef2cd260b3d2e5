"""Runs as a whole: the numbers of a distillation written by hand, and models left as they were."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compresskit import Match, ProgressiveDistiller, Stage, Task, curricula


def test_one_stage_equals_distillation_written_by_hand(teacher, student, batches, sgd_with_momentum):
    by_hand = copy.deepcopy(student)
    kl = Match(".", loss="kl", weight=0.7, temperature=3.0)
    stage = Stage("all", matches=[kl], tasks=[Task("cross_entropy")], steps=10, optimizer=sgd_with_momentum)
    student[5].p = by_hand[5].p = 0.0
    history = ProgressiveDistiller(teacher, student, [stage]).fit(batches).history

    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.05, momentum=0.9)
    teacher.eval()
    by_hand.train()
    for step, record in enumerate(history):
        inputs, targets = batches[step % len(batches)]
        with torch.no_grad():
            soft = F.log_softmax(teacher(inputs) / 3.0, dim=1)
        logits = by_hand(inputs)
        imitation = F.kl_div(F.log_softmax(logits / 3.0, dim=1), soft, reduction="batchmean", log_target=True) * 9.0
        supervised = F.cross_entropy(logits, targets)
        optimizer.zero_grad()
        (0.7 * imitation + supervised).backward()
        optimizer.step()
        assert record["terms"]["kl(.)"]["value"] == pytest.approx(imitation.item(), rel=1e-5)
        assert record["terms"]["cross_entropy(., target)"]["value"] == pytest.approx(supervised.item(), rel=1e-5)
    for ours, theirs in zip(student.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_run_leaves_nothing_on_either_model_and_the_teacher_bit_identical(
    teacher, student, batches, state, changed, marks
):
    teacher.train()
    student.eval()
    before, marks_before = state(teacher), (marks(teacher), marks(student))
    stages = curricula.progressive([Match("1"), Match(".")], steps=2, tasks=[Task("cross_entropy")])
    ProgressiveDistiller(teacher, student, stages).fit(batches, val_loader=batches)
    assert changed(before, teacher) == set()
    assert (marks(teacher), marks(student)) == marks_before


def test_a_crash_leaves_nothing_on_either_model(teacher, student, batches, marks):
    marks_before = marks(teacher), marks(student)

    def crash(_student, _teacher):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ProgressiveDistiller(teacher, student, [Stage("s", matches=[Match("1", loss=crash)], steps=2)]).fit(batches)
    assert (marks(teacher), marks(student)) == marks_before


def test_the_caller_s_random_numbers_are_not_touched(teacher, student, batches):
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    distiller = ProgressiveDistiller(teacher, student, [Stage("s", matches=[Match("1")], steps=2)])
    distiller.plan(batches[0])
    distiller.fit(batches)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_fit_trains_even_if_gradients_are_off_around_it(context, losses):
    teacher = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    student = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    inputs = torch.randn(4, 3)
    with context():
        values = losses(teacher, student, Match("."), inputs=inputs)
    assert values[2] < values[0]


def test_adapters_train_and_live_on_across_stages(teacher, student, batches, sgd_with_momentum):
    stages = curricula.progressive([Match("1"), Match("3")], steps=30, optimizer=sgd_with_momentum)
    history = ProgressiveDistiller(teacher, student, stages).fit(batches).history
    values = [record["terms"]["mse(1)"]["value"] for record in history]
    assert values[30] < values[0] / 2  # the second stage continues where the first one ended


def test_terms_of_several_teachers_have_their_names(teacher, student, batches, net):
    stage = Stage("s", matches=[Match("3", "big:3"), Match(".", "small:.")], steps=1)
    terms = ProgressiveDistiller({"big": teacher, "small": net(4, seed=3)}, student, [stage]).fit(batches).history[0]
    assert set(terms["terms"]) == {"mse(3, big:3)", "mse(., small:.)"}


def test_weights_follow_their_schedule(teacher, student, batches):
    weight = {"schedule": "linear", "start": 1.0, "end": 0.0}
    stage = Stage("s", matches=[Match(".", weight=weight)], steps=5)
    history = ProgressiveDistiller(teacher, student, [stage]).fit(batches).history
    assert [record["terms"]["mse(.)"]["weight"] for record in history] == [1.0, 0.75, 0.5, 0.25, 0.0]


def test_an_epoch_ends_with_a_step_of_the_batches_that_are_left(student, batches):
    stage = Stage("s", tasks=[Task("cross_entropy")], epochs=2, accumulate=3)
    assert len(ProgressiveDistiller(None, student, [stage]).fit(batches).history) == 4
