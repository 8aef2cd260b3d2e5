"""More than one teacher and one student: who learns, who is a constant, and what stands in whose place."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compresskit import Match, ProgressiveDistiller, RecipeError, Splice, Stage, TapError, Task
from compresskit.distill.views import Part, Renormalized, Resized

SGD = {"_target_": "torch.optim.SGD", "lr": 0.1}


def net(width, seed, depth=2):
    torch.manual_seed(seed)
    blocks = [nn.Sequential(nn.Conv2d(3 if k == 0 else width, width, 3, padding=1), nn.Tanh()) for k in range(depth)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5))


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(6, 3, 8, 8, generator=generator), torch.randint(0, 5, (6,), generator=generator)) for _ in range(3)
    ]


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def changed(before, model):
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}


def test_a_teacher_on_the_student_s_side_trains_along_and_its_imitation_pulls_at_the_student_alone(batches):
    teacher, student = net(4, 1), net(4, 2)
    by_hand = copy.deepcopy(teacher), copy.deepcopy(student)
    stage = Stage(
        "joint",
        matches=[Match(".", loss="kl")],
        tasks=[Task("cross_entropy"), Task("cross_entropy", "teacher:.")],
        steps=3,
        optimizer=SGD,
    )
    result = ProgressiveDistiller(teacher, student, [stage]).fit(batches)
    optimizer = torch.optim.SGD([*by_hand[0].parameters(), *by_hand[1].parameters()], lr=0.1)
    for inputs, targets in batches:
        guide, logits = (model(inputs) for model in by_hand)
        imitation = F.kl_div(logits.log_softmax(1), guide.detach().softmax(1), reduction="batchmean")
        loss = imitation + F.cross_entropy(logits, targets) + F.cross_entropy(guide, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert set(result.history[0]["terms"]) == {
        "kl(.)",
        "cross_entropy(., target)",
        "cross_entropy(teacher:., target)",
    }
    for ours, theirs in zip((teacher, student), by_hand, strict=True):
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(one, other)


def test_only_the_declared_parameters_of_a_learning_teacher_change(batches):
    teacher, student = net(4, 1), net(4, 2)
    before = state(teacher), state(student)
    stage = Stage("t", tasks=[Task("cross_entropy", "teacher:.")], train=["teacher:4.*"], steps=2)
    ProgressiveDistiller(teacher, student, [stage]).fit(batches)
    assert changed(before[0], teacher) == {"4.weight", "4.bias"}
    assert changed(before[1], student) == set()


def test_the_previous_student_is_a_frozen_copy_from_the_stage_s_beginning(batches):
    student = net(4, 2)
    anchored = Stage("b", matches=[Match(".", "previous:.")], tasks=[Task("cross_entropy")], steps=2, optimizer=SGD)
    history = (
        ProgressiveDistiller(None, student, [Stage("a", tasks=[Task("cross_entropy")], steps=2), anchored])
        .fit(batches)
        .history
    )
    drift = [record["terms"]["mse(., previous:.)"]["value"] for record in history[2:]]
    assert drift[0] == 0.0
    assert drift[1] > 0.0


def test_a_stopped_run_with_anchor_joint_teacher_and_average_continues_to_the_same_weights(
    batches, tmp_path, monkeypatch
):
    monkeypatch.setattr("compresskit.distill.session.run_folder.CHECKPOINT_SECONDS", 0.0)
    first = Stage("a", matches=[Match(".", loss="kl")], tasks=[Task("cross_entropy", "teacher:.")], steps=3)
    second = Stage("b", matches=[Match(".", "previous:.")], tasks=[Task("cross_entropy")], steps=5, ema=0.9)

    class Dies:
        def __iter__(self):
            for batch in batches:
                self.drawn = getattr(self, "drawn", 0) + 1
                if self.drawn > 6:
                    raise KeyboardInterrupt
                yield batch

    def run(loader, out):
        teacher, student = net(4, 1), net(4, 2)
        result = ProgressiveDistiller(teacher, student, [first, second], out=out).fit(loader)
        return teacher, student, result.student

    whole = run(batches, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(Dies(), tmp_path / "part")
    for ours, theirs in zip(run(batches, tmp_path / "part"), whole, strict=True):
        assert changed(state(theirs), ours) == set()
    again = run([], tmp_path / "part")  # finished: nothing is trained, and the average is given back
    assert changed(state(whole[2]), again[2]) == set()


def test_a_splice_puts_the_student_s_block_into_the_teacher_and_trains_the_student_through_it(batches):
    teacher, student = net(6, 1), net(4, 2)
    before = state(teacher), state(student)
    stage = Stage(
        "h", matches=[Match("hybrid:.", ".")], splices=[Splice("0")], train="upstream", steps=2, optimizer=SGD
    )
    glue = nn.Conv2d(4, 6, 1)
    given = Stage("h", matches=[Match("hybrid:.", ".")], splices=[Splice("0", adapter=glue)], steps=1, optimizer=SGD)
    inputs, _ = batches[0]
    with torch.no_grad():
        expected = F.mse_loss(teacher[1:](glue(student[0](inputs))), teacher(inputs)).item()
    history = ProgressiveDistiller(teacher, copy.deepcopy(student), [given]).fit(batches).history
    assert history[0]["terms"]["mse(hybrid:., .)"]["value"] == pytest.approx(expected, rel=1e-5)
    ProgressiveDistiller(teacher, student, [stage]).fit(batches)
    assert changed(before[0], teacher) == set()
    assert changed(before[1], student) == {"0.0.weight", "0.0.bias"}
    assert not any(module._forward_hooks for module in teacher.modules())


def test_a_splice_the_other_way_feeds_the_student_with_the_teacher_s_features(batches):
    teacher, student = net(4, 1), net(4, 2)
    stage = Stage(
        "lit",
        matches=[Match("hybrid:0", "0"), Match("hybrid:1", "1")],
        splices=[Splice("teacher:0", into="0")],
        steps=1,
        optimizer=SGD,
    )
    inputs, _ = batches[0]
    with torch.no_grad():
        own = F.mse_loss(student[0](inputs), teacher[0](inputs)).item()  # what was there before it was replaced
        fed = F.mse_loss(student[1](teacher[0](inputs)), teacher[:2](inputs)).item()
    terms = ProgressiveDistiller(teacher, student, [stage]).fit(batches).history[0]["terms"]
    assert terms["mse(hybrid:0, 0)"]["value"] == pytest.approx(own, rel=1e-5)
    assert terms["mse(hybrid:1, 1)"]["value"] == pytest.approx(fed, rel=1e-5)


def test_a_match_and_a_splice_of_one_pair_share_their_glue(batches):
    teacher, student = net(6, 1), net(4, 2)
    stage = Stage("h", matches=[Match("0"), Match("hybrid:.", ".")], splices=[Splice("0")], steps=1)
    plan = ProgressiveDistiller(teacher, student, [stage]).plan(batches[0])
    assert plan.stages[0].adapter_elements == 4 * 6 + 6


def test_a_spliced_part_of_a_tuple_leaves_the_rest(batches):
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
        "h", matches=[Match("hybrid:.", ".")], splices=[Splice("rnn@out[0]", adapter=None)], steps=1, optimizer=SGD
    )
    inputs, _ = batches[0]
    with torch.no_grad():
        out, last = student.rnn(inputs.mean(1))[0], teacher.rnn(inputs.mean(1))[1]
        expected = F.mse_loss(teacher.head(torch.cat([out[:, -1], last[0]], dim=1)), teacher(inputs)).item()
    history = ProgressiveDistiller(teacher, student, [stage]).fit(batches).history
    assert history[0]["terms"]["mse(hybrid:., .)"]["value"] == pytest.approx(expected, rel=1e-5)


def test_each_model_looks_at_the_batch_in_its_own_way(batches):
    student, teacher = net(4, 2), net(4, 1)
    twice = [((inputs, inputs.repeat(1, 1, 2, 2)), targets) for inputs, targets in batches]
    views = {"student": Part(0), "teacher": lambda inputs: Renormalized([0.5] * 3, [2.0] * 3)(Resized(16)(inputs[1]))}
    stage = Stage("s", matches=[Match(".")], steps=1)
    history = ProgressiveDistiller(teacher, student, [stage], views=views).fit(twice).history
    inputs, _ = batches[0]
    with torch.no_grad():
        expected = F.mse_loss(net(4, 2)(inputs), teacher((inputs.repeat(1, 1, 2, 2) - 0.5) / 2))
    assert history[0]["terms"]["mse(.)"]["value"] == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    "batch", [torch.randn(4, 3, 8, 8), [torch.randn(4, 3, 8, 8)], {"inputs": torch.randn(4, 3, 8, 8)}]
)
def test_batches_need_no_targets_where_no_task_reads_them(batch):
    ProgressiveDistiller(net(4, 1), net(4, 2), [Stage("s", matches=[Match(".")], steps=1)]).fit([batch])
    task = Stage("s", tasks=[Task("cross_entropy")], steps=1)
    with pytest.raises(Exception, match="needs targets, and the batch has none"):
        ProgressiveDistiller(None, net(4, 2), [task]).fit([batch])


def test_a_loss_may_ask_for_the_targets_and_for_several_taps(batches):
    seen = []

    def with_labels(student, teacher, target):
        seen.append(target)
        return (student - teacher).square().mean()

    def flow(student, teacher):
        (a, b), (c, d) = student, teacher
        return (a.mean() * b.mean() - c.mean() * d.mean()).square()

    matches = [Match(".", loss=with_labels), Match(("0", "1"), loss=flow)]
    history = ProgressiveDistiller(net(4, 1), net(4, 2), [Stage("s", matches=matches, steps=1)]).fit(batches).history
    assert set(history[0]["terms"]) == {"with_labels(.)", "flow(0 + 1)"}
    assert torch.equal(seen[-1], batches[0][1])


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (Stage("s", matches=[Match(".", "teecher:.")], steps=1), "no teacher 'teecher'; did you mean 'teacher'?"),
        (Stage("s", matches=[Match("previous:.", ".")], steps=1), "previous is a frozen copy and cannot learn"),
        (
            Stage("s", matches=[Match("hybrid:.", ".")], splices=[Splice("0", into="student:0")], steps=1),
            "a splice leads from the student into a teacher",
        ),
    ],
)
def test_a_model_that_is_not_there_is_missed_at_once(stage, message):
    with pytest.raises(RecipeError) as caught:
        ProgressiveDistiller(net(4, 1), net(4, 2), [stage])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"splices": [Splice("0")]}, "splices make a hybrid, and no term reads it"),
        ({"matches": [Match("hybrid:.", ".")]}, "a term reads the hybrid, and there are no splices"),
    ],
)
def test_splices_and_what_reads_them_go_together(options, message):
    with pytest.raises(RecipeError) as caught:
        Stage("s", **{"matches": [Match(".")], "steps": 1, **options})
    assert message in str(caught.value)


def test_a_splice_that_does_not_fit_is_an_error(batches):
    stage = Stage("h", matches=[Match("hybrid:.", ".")], splices=[Splice("0", adapter=None)], steps=1)
    with pytest.raises(TapError, match="give an adapter"):
        ProgressiveDistiller(net(6, 1), net(4, 2), [stage]).fit(batches)


def test_views_of_models_that_are_not_there_are_refused():
    with pytest.raises(RecipeError, match="there is no model 'teecher'; did you mean 'teacher'"):
        ProgressiveDistiller(net(4, 1), net(4, 2), [Stage("s", matches=[Match(".")], steps=1)], views={"teecher": len})


def test_a_match_without_a_teacher_s_address_means_the_same_one_in_the_teacher():
    assert Match("hybrid:0").teacher == "0"
    assert Match(("middle:0", "middle:1"), loss="fsp").teacher == ("0", "1")
    with pytest.raises(RecipeError, match="compares a tensor with itself"):
        ProgressiveDistiller(net(4, 1), net(4, 2), [Stage("s", matches=[Match(".", "student:.")], steps=1)])


def test_a_pair_has_one_adapter_and_another_one_is_refused(batches):
    node = {"_target_": "torch.nn.Conv2d", "in_channels": 4, "out_channels": 6, "kernel_size": 3, "padding": 1}
    stages = [Stage("a", matches=[Match("0")], steps=1), Stage("b", matches=[Match("0", adapter=node)], steps=1)]
    with pytest.raises(RecipeError, match="one pair, one adapter"):
        ProgressiveDistiller(net(6, 1), net(4, 2), stages).fit(batches)


def test_a_teacher_in_half_precision_takes_the_student_s_block(batches):
    stage = Stage("h", matches=[Match("hybrid:.", ".")], splices=[Splice("0")], steps=1)
    views = {"teacher": lambda inputs: inputs.bfloat16()}
    history = ProgressiveDistiller(net(6, 1).bfloat16(), net(4, 2), [stage], views=views).fit(batches).history
    assert len(history) == 1
