"""Several models in a stage: who learns, who is constant, and each model's view of the batch."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compresskit import Match, ProgressiveDistiller, RecipeError, Splice, Stage, Task
from compresskit.distill.views import Part, Renormalized, Resized


def test_a_teacher_on_the_student_s_side_learns_and_its_imitation_changes_the_student_alone(batches, net, sgd):
    teacher, student = net(4, 1), net(4, 2)
    by_hand = copy.deepcopy(teacher), copy.deepcopy(student)
    stage = Stage(
        "joint",
        matches=[Match(".", loss="kl")],
        tasks=[Task("cross_entropy"), Task("cross_entropy", "teacher:.")],
        steps=3,
        optimizer=sgd,
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


def test_only_the_declared_parameters_of_a_learning_teacher_change(batches, net, state, changed):
    teacher, student = net(4, 1), net(4, 2)
    before = state(teacher), state(student)
    stage = Stage("t", tasks=[Task("cross_entropy", "teacher:.")], train=["teacher:4.*"], steps=2)
    ProgressiveDistiller(teacher, student, [stage]).fit(batches)
    assert changed(before[0], teacher) == {"4.weight", "4.bias"}
    assert changed(before[1], student) == set()


def test_the_previous_student_is_a_frozen_copy_from_the_beginning_of_the_stage(batches, net, sgd):
    student = net(4, 2)
    anchored = Stage("b", matches=[Match(".", "previous:.")], tasks=[Task("cross_entropy")], steps=2, optimizer=sgd)
    history = (
        ProgressiveDistiller(None, student, [Stage("a", tasks=[Task("cross_entropy")], steps=2), anchored])
        .fit(batches)
        .history
    )
    drift = [record["terms"]["mse(., previous:.)"]["value"] for record in history[2:]]
    assert drift[0] == 0.0
    assert drift[1] > 0.0


@pytest.mark.usefixtures("frequent_checkpoints")
def test_a_stopped_run_with_anchor_learning_teacher_and_average_continues_to_the_same_weights(
    batches, tmp_path, net, state, changed, failing_loader
):
    first = Stage("a", matches=[Match(".", loss="kl")], tasks=[Task("cross_entropy", "teacher:.")], steps=3)
    second = Stage("b", matches=[Match(".", "previous:.")], tasks=[Task("cross_entropy")], steps=5, ema=0.9)

    def run(loader, out):
        teacher, student = net(4, 1), net(4, 2)
        result = ProgressiveDistiller(teacher, student, [first, second], out=out).fit(loader)
        return teacher, student, result.student

    whole = run(batches, tmp_path / "whole")
    with pytest.raises(SystemExit):
        run(failing_loader(batches, 6), tmp_path / "part")
    for ours, theirs in zip(run(batches, tmp_path / "part"), whole, strict=True):
        assert changed(state(theirs), ours) == set()
    again = run([], tmp_path / "part")  # finished: nothing is trained, and the average is returned
    assert changed(state(whole[2]), again[2]) == set()


def test_each_model_has_its_own_view_of_the_batch(batches, net):
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
def test_an_impossible_model_on_either_side_is_refused_at_once(stage, message, net):
    with pytest.raises(RecipeError) as caught:
        ProgressiveDistiller(net(4, 1), net(4, 2), [stage])
    assert message in str(caught.value)


def test_a_view_of_an_unknown_model_is_refused(net):
    with pytest.raises(RecipeError, match="there is no model 'teecher'; did you mean 'teacher'"):
        ProgressiveDistiller(net(4, 1), net(4, 2), [Stage("s", matches=[Match(".")], steps=1)], views={"teecher": len})


def test_a_match_without_a_teacher_s_address_has_the_student_s_address_there(net):
    assert Match("hybrid:0").teacher == "0"
    assert Match(("middle:0", "middle:1"), loss="fsp").teacher == ("0", "1")
    with pytest.raises(RecipeError, match="compares a tensor with itself"):
        ProgressiveDistiller(net(4, 1), net(4, 2), [Stage("s", matches=[Match(".", "student:.")], steps=1)])


def on_meta_device():
    with torch.device("meta"):
        return nn.Sequential(nn.Linear(3, 2))


def in_inference_mode():
    with torch.inference_mode():
        return nn.Sequential(nn.Linear(3, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (on_meta_device, "student: 0.weight is on the meta device and has no values"),
        (in_inference_mode, "student: 0.weight was made in torch.inference_mode"),
        (lambda: nn.Sequential(nn.LazyLinear(2)), "student: 0.weight has no shape yet (a lazy module)"),
    ],
)
def test_a_model_without_usable_weights_is_refused_at_once(make, message):
    with pytest.raises(RecipeError) as caught:
        ProgressiveDistiller(nn.Linear(3, 2), make(), [Stage("s", matches=[Match(".")], steps=1)])
    assert message in str(caught.value)


def test_a_teacher_that_shares_a_norm_with_its_student_is_refused(losses):
    norm = nn.BatchNorm1d(2, affine=False)
    with pytest.raises(RecipeError, match="shares parameters or buffers with the student"):
        losses(
            nn.Sequential(nn.Linear(3, 2), norm),
            nn.Sequential(nn.Linear(3, 2), norm),
            Match("."),
            inputs=torch.randn(4, 3),
        )


class Immovable(nn.Linear):
    """A model as one in 8 bits: it lies on its device and refuses to be moved."""

    def to(self, *_args, **_options):
        raise ValueError("`.to` is not supported for 8-bit models")


def test_a_model_that_cannot_be_moved_may_lie_on_the_device_already():
    stage = Stage("s", matches=[Match(".")], steps=2)
    batches = [(torch.randn(2, 3), None)]
    result = ProgressiveDistiller(Immovable(3, 4), Immovable(3, 4), [stage], device="cpu").fit(batches)
    assert len(result.history) == 2


def test_an_offloaded_teacher_stays_where_it_is():
    accelerate = pytest.importorskip("accelerate")
    teacher, student = nn.Sequential(nn.Linear(3, 4), nn.ReLU()), nn.Linear(3, 4)
    inputs = torch.randn(2, 3)
    expected = (student(inputs) - teacher(inputs)).square().mean().item()
    accelerate.cpu_offload(teacher, execution_device=torch.device("cpu"))
    stage = Stage("s", matches=[Match(".")], steps=1)
    history = ProgressiveDistiller(teacher, student, [stage], device="cpu").fit([(inputs, None)]).history
    assert history[0]["terms"]["mse(.)"]["value"] == pytest.approx(expected)
    assert teacher[0].weight.is_meta
