"""One stage inside a training loop of the user's own."""

import copy

import pytest
import torch
from torch import nn

from compresskit import Match, ProgressiveDistiller, RecipeError, Stage, Task, curricula


def net(width, seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Tanh(), nn.Linear(width, 2))


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(8, 3, generator=generator), torch.randint(2, (8,), generator=generator)) for _ in range(3)]


STAGE = Stage(
    "s",
    matches=[Match("1", weight={"schedule": "linear", "start": 1.0, "end": 0.0})],
    tasks=[Task("cross_entropy")],
    steps=3,
    optimizer={"_target_": "torch.optim.SGD", "lr": 0.1},
)


def test_a_user_s_loop_gives_the_same_weights_as_fit(batches, marks):
    teacher, student = net(6, 1), net(4, 2)
    fitted = copy.deepcopy(student)
    ProgressiveDistiller(teacher, fitted, [STAGE]).fit(batches)
    before = marks(teacher), marks(student, gradients=False)
    with ProgressiveDistiller(teacher, student, [STAGE]).stage(0, batches[0]) as objective:
        optimizer = torch.optim.SGD(objective.parameters(), lr=0.1)
        for inputs, targets in batches:
            loss, terms = objective(inputs, targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert set(terms) == {"mse(1)", "cross_entropy(., target)"}
    for ours, theirs in zip(student.parameters(), fitted.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert (marks(teacher), marks(student, gradients=False)) == before


def test_three_lines_are_enough_without_adapters(batches):
    stage = Stage("s", matches=[Match(".", loss="kl")], steps=1)
    distiller = ProgressiveDistiller(net(6, 1), net(4, 2), [stage])
    with distiller.stage(0) as objective:
        loss, _ = objective(*batches[0])
    assert loss.requires_grad


def test_a_warning_says_that_adapters_need_an_optimizer(batches):
    with (
        ProgressiveDistiller(net(6, 1), net(4, 2), [STAGE]).stage(0) as objective,
        pytest.warns(UserWarning, match="only if your optimizer is given objective.parameters"),
    ):
        objective(*batches[0])


def test_adapters_live_on_from_stage_to_stage(batches):
    stages = curricula.progressive([Match("1"), Match("3")], steps=2)
    distiller = ProgressiveDistiller(net(6, 1), net(4, 2), stages)
    first, second = distiller.stage(0, batches[0]), distiller.stage(-1, batches[0])
    assert {id(p) for p in first.parameters() if p.shape[0] == 6} <= {id(p) for p in second.parameters()}


def test_adapters_can_be_saved_and_loaded(batches):
    def adapter(distiller):
        return distiller.stage(0, batches[0]).parameters()[-2]  # the weight of the linear map

    trained = ProgressiveDistiller(net(6, 1), net(4, 2), [STAGE])
    torch.nn.init.constant_(adapter(trained), 7.0)
    state = trained.stage(0).state_dict()
    again = ProgressiveDistiller(net(6, 1), net(4, 2), [STAGE])
    again.stage(0).load_state_dict(state)
    assert torch.equal(adapter(again), adapter(trained))


def test_other_parameters_are_frozen_inside_the_block_and_trainable_again_outside(batches):
    student = net(4, 2)
    stage = Stage("s", matches=[Match(".")], train=["3.*"], steps=1)
    with ProgressiveDistiller(net(6, 1), student, [stage]).stage(0, batches[0]) as objective:
        assert [p.shape for p in objective.parameters()] == [student[3].weight.shape, student[3].bias.shape]
        assert not student[0].weight.requires_grad
        assert not student[1].training
    assert student[0].weight.requires_grad


def test_train_and_eval_in_a_user_s_loop_do_not_change_the_modes_of_frozen_modules(batches):
    teacher, student = net(6, 1), net(4, 2)
    before = [buffer.clone() for model in (teacher, student) for buffer in model.buffers()]
    stage = Stage("s", matches=[Match(".")], train=["3.*"], steps=1)
    with ProgressiveDistiller(teacher, student, [stage]).stage(0, batches[0]) as objective:
        teacher.train()
        student.eval()
        with torch.no_grad():
            objective(*batches[0])
        assert not student.training
        student.train()
        objective(*batches[0])
        assert student.training
        assert not student[1].training
        assert not teacher.training
    after = [buffer for model in (teacher, student) for buffer in model.buffers()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_schedules_advance_with_calls_that_have_gradients(batches):
    with ProgressiveDistiller(net(4, 1), net(4, 2), [STAGE]).stage(0, batches[0]) as objective:
        steps = []
        for inputs, targets in (*batches, batches[0]):
            steps.append(objective.step)
            objective(inputs, targets)
            with torch.no_grad():
                objective(inputs, targets)
        assert steps == [0, 1, 2, 2]
        objective.step = 1
        assert objective.step == 1


def test_an_error_about_a_wrong_use_names_the_right_one(batches):
    distiller = ProgressiveDistiller(net(6, 1), net(4, 2), [STAGE])
    with pytest.raises(RecipeError, match="stage 1: there are 1 stages, counted from 0"):
        distiller.stage(1)
    with pytest.raises(RecipeError, match="the stage has seen no batch"):
        distiller.stage(0).parameters()
    with pytest.raises(RecipeError, match="works inside its block"):
        distiller.stage(0, batches[0])(*batches[0])


def test_only_one_block_may_be_open_at_a_time(batches):
    stages = [STAGE, Stage("t", matches=[Match(".")], train=["3.*"], steps=1)]
    distiller = ProgressiveDistiller(net(6, 1), net(4, 2), stages)
    first, second = distiller.stage(0, batches[0]), distiller.stage(1, batches[0])
    with first:
        for forbidden in (first.__enter__, second.__enter__, lambda: distiller.plan(batches[0])):
            with pytest.raises(RecipeError, match="the block of stage 's' is still open; leave it first"):
                forbidden()
    with second:
        second(*batches[0])


@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize("options", [{"precision": "bf16"}, {"memory_format": "channels_last"}, {"compile": True}])
def test_a_user_s_loop_computes_the_same_terms_as_fit(options, batches):
    teacher, student = net(6, 1), net(4, 2)
    fitted = copy.deepcopy(student)
    first = ProgressiveDistiller(teacher, fitted, [STAGE], device="cpu", **options).fit(batches[:1]).history[0]["terms"]
    with ProgressiveDistiller(teacher, student, [STAGE], device="cpu", **options).stage(0, batches[0]) as objective:
        assert objective.parameters()
        _, terms = objective(*batches[0])
    assert {name: value.item() for name, value in terms.items()} == {name: t["value"] for name, t in first.items()}


def test_auto_is_resolved_before_a_user_s_loop(batches):
    distiller = ProgressiveDistiller(net(6, 1), net(4, 2), [STAGE], device="cpu", precision="auto")
    with pytest.raises(RecipeError, match=r"auto is measured on a batch .*: distiller.resolve_auto\(batch\)"):
        distiller.stage(0)
    distiller.resolve_auto(batches[0])
    with distiller.stage(0, batches[0]) as objective:
        assert objective.parameters()
        assert torch.isfinite(objective(*batches[0])[0])
