"""Splices: the hybrid computes one model's work inside another, and only the student learns from it."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compresskit import Match, ProgressiveDistiller, RecipeError, Splice, Stage, TapError


def test_a_splice_puts_the_student_s_block_into_the_teacher_and_the_student_trains_through_it(
    batches, net, sgd, state, changed
):
    teacher, student = net(6, 1), net(4, 2)
    before = state(teacher), state(student)
    stage = Stage(
        "h", matches=[Match("hybrid:.", ".")], splices=[Splice("0")], train="upstream", steps=2, optimizer=sgd
    )
    adapter = nn.Conv2d(4, 6, 1)
    one_step = Stage(
        "h", matches=[Match("hybrid:.", ".")], splices=[Splice("0", adapter=adapter)], steps=1, optimizer=sgd
    )
    inputs, _ = batches[0]
    with torch.no_grad():
        expected = F.mse_loss(teacher[1:](adapter(student[0](inputs))), teacher(inputs)).item()
    history = ProgressiveDistiller(teacher, copy.deepcopy(student), [one_step]).fit(batches).history
    assert history[0]["terms"]["mse(hybrid:., .)"]["value"] == pytest.approx(expected, rel=1e-5)
    ProgressiveDistiller(teacher, student, [stage]).fit(batches)
    assert changed(before[0], teacher) == set()
    assert changed(before[1], student) == {"0.0.weight", "0.0.bias"}
    assert not any(module._forward_hooks for module in teacher.modules())


def test_a_splice_from_the_teacher_feeds_its_features_to_the_student(batches, net, sgd):
    teacher, student = net(4, 1), net(4, 2)
    stage = Stage(
        "lit",
        matches=[Match("hybrid:0", "0"), Match("hybrid:1", "1")],
        splices=[Splice("teacher:0", into="0")],
        steps=1,
        optimizer=sgd,
    )
    inputs, _ = batches[0]
    with torch.no_grad():
        before = F.mse_loss(student[0](inputs), teacher[0](inputs)).item()  # the tensor before it is replaced
        after = F.mse_loss(student[1](teacher[0](inputs)), teacher[:2](inputs)).item()
    terms = ProgressiveDistiller(teacher, student, [stage]).fit(batches).history[0]["terms"]
    assert terms["mse(hybrid:0, 0)"]["value"] == pytest.approx(before, rel=1e-5)
    assert terms["mse(hybrid:1, 1)"]["value"] == pytest.approx(after, rel=1e-5)


def test_a_match_and_a_splice_of_one_pair_share_their_adapter(batches, net):
    teacher, student = net(6, 1), net(4, 2)
    stage = Stage("h", matches=[Match("0"), Match("hybrid:.", ".")], splices=[Splice("0")], steps=1)
    plan = ProgressiveDistiller(teacher, student, [stage]).plan(batches[0])
    assert plan.stages[0].adapter_elements == 4 * 6 + 6


def test_a_splice_into_a_part_of_a_tuple_leaves_the_rest(batches, sgd):
    class Cell(nn.Module):
        def __init__(self, seed):
            super().__init__()
            torch.manual_seed(seed)
            self.rnn, self.head = nn.GRU(8, 4, batch_first=True), nn.Linear(8, 5)

        def forward(self, x):
            out, last = self.rnn(x.mean(1))
            return self.head(torch.cat([out[:, -1], last[0]], dim=1))

    teacher, student = Cell(1), Cell(2)
    stage = Stage(
        "h", matches=[Match("hybrid:.", ".")], splices=[Splice("rnn@out[0]", adapter=None)], steps=1, optimizer=sgd
    )
    inputs, _ = batches[0]
    with torch.no_grad():
        out, last = student.rnn(inputs.mean(1))[0], teacher.rnn(inputs.mean(1))[1]
        expected = F.mse_loss(teacher.head(torch.cat([out[:, -1], last[0]], dim=1)), teacher(inputs)).item()
    history = ProgressiveDistiller(teacher, student, [stage]).fit(batches).history
    assert history[0]["terms"]["mse(hybrid:., .)"]["value"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"splices": [Splice("0")]}, "splices make a hybrid, and no term reads it"),
        ({"matches": [Match("hybrid:.", ".")]}, "a term reads the hybrid, and there are no splices"),
    ],
)
def test_splices_need_a_term_that_reads_the_hybrid_and_the_other_way_round(options, message):
    with pytest.raises(RecipeError) as caught:
        Stage("s", **{"matches": [Match(".")], "steps": 1, **options})
    assert message in str(caught.value)


def test_a_splice_that_does_not_fit_is_an_error(batches, net):
    stage = Stage("h", matches=[Match("hybrid:.", ".")], splices=[Splice("0", adapter=None)], steps=1)
    with pytest.raises(TapError, match="give an adapter"):
        ProgressiveDistiller(net(6, 1), net(4, 2), [stage]).fit(batches)


def test_a_teacher_in_half_precision_takes_the_student_s_block(batches, net):
    stage = Stage("h", matches=[Match("hybrid:.", ".")], splices=[Splice("0")], steps=1)
    views = {"teacher": lambda inputs: inputs.bfloat16()}
    history = ProgressiveDistiller(net(6, 1).bfloat16(), net(4, 2), [stage], views=views).fit(batches).history
    assert len(history) == 1
