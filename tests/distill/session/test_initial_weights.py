"""A student that starts from its teacher's weights: in `fit`, in the plan, and when a run is resumed."""

import copy

import pytest
import torch

from compresskit import ProgressiveDistiller, Stage, Task, inherit
from compresskit.errors import CheckpointError, RecipeError, TapError


@pytest.fixture
def stages(sgd):
    return [Stage("labels", tasks=[Task("cross_entropy")], steps=6, optimizer=sgd)]


def test_fit_gives_the_student_its_teachers_weights_before_the_first_step(teacher, student, batches, stages):
    by_hand = copy.deepcopy(student)
    inherit(teacher, by_hand, inputs=batches[0][0])
    expected = ProgressiveDistiller(None, by_hand, stages).fit(batches)
    result = ProgressiveDistiller(teacher, student, stages, inherit="teacher").fit(batches)
    assert [record["terms"] for record in result.history] == [record["terms"] for record in expected.history]
    for name, tensor in by_hand.state_dict().items():
        assert torch.equal(tensor, student.state_dict()[name]), name


def test_the_plan_says_what_is_inherited_and_changes_nothing(teacher, student, batches, stages, state, changed):
    before = state(student)
    plan = ProgressiveDistiller(teacher, student, stages, inherit="teacher").plan(batches[0])
    assert plan.inherited is not None
    assert set(plan.inherited.inherited) == set(before)
    assert plan.inherited.summary() == "11 of 11 tensors inherited, 9 of them pruned"
    assert f"weights from teacher: {plan.inherited.summary()}" in str(plan)
    assert changed(before, student) == set()
    inherit(teacher, student, inputs=batches[0][0])
    by_hand = ProgressiveDistiller(teacher, student, stages).plan(batches[0])
    assert plan.stages == by_hand.stages


def test_modules_of_other_names_are_inherited_by_a_mapping(teacher, student, batches, stages):
    option = {"from": "big", "names": {"1": "1"}}
    plan = ProgressiveDistiller({"big": teacher}, student, stages, inherit=option).plan(batches[0])
    assert "weights from big" in str(plan)


@pytest.mark.usefixtures("frequent_checkpoints")
def test_a_resumed_run_does_not_inherit_again(teacher, student, batches, stages, tmp_path, failing_loader):
    undisturbed, start = copy.deepcopy(student), copy.deepcopy(student)
    ProgressiveDistiller(teacher, undisturbed, stages, inherit="teacher", out=tmp_path / "whole").fit(batches)
    with pytest.raises(SystemExit):
        ProgressiveDistiller(teacher, student, stages, inherit="teacher", out=tmp_path / "part").fit(
            failing_loader(batches, 3)
        )
    with pytest.raises(CheckpointError, match="its inherit differs"):
        ProgressiveDistiller(
            teacher, copy.deepcopy(start), stages, inherit={"names": {"0": "0"}}, out=tmp_path / "part"
        ).fit(batches)
    resumed = ProgressiveDistiller(teacher, start, stages, inherit="teacher", out=tmp_path / "part").fit(batches)
    for name, tensor in undisturbed.state_dict().items():
        assert torch.equal(tensor, resumed.student.state_dict()[name]), name


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("techer", "inherit: there is no teacher 'techer'; did you mean 'teacher'?"),
        ({"form": "teacher"}, "inherit has no option 'form'; did you mean 'from'?"),
        ({"names": ["1"]}, "names must be a mapping"),
        ({"from": 1}, "from must be a teacher's name"),
        (True, "inherit must be a teacher's name"),
    ],
)
def test_a_wrong_option_is_refused_at_once(teacher, student, stages, option, message):
    with pytest.raises(RecipeError, match=message):
        ProgressiveDistiller(teacher, student, stages, inherit=option)


def test_a_module_that_the_student_lacks_is_refused_before_training(teacher, student, batches, stages, state, changed):
    before = state(student)
    distiller = ProgressiveDistiller(teacher, student, stages, inherit={"names": {"blocks.9": "1"}})
    with pytest.raises(TapError, match=r"inherit: names: the student has no module 'blocks\.9'"):
        distiller.fit(batches)
    assert changed(before, student) == set()


def test_a_loop_of_ones_own_inherits_by_itself(teacher, student, batches, stages):
    with pytest.raises(RecipeError, match=r"call compresskit.inherit\(teacher, student\)"):
        ProgressiveDistiller(teacher, student, stages, inherit="teacher").stage(0, batches[0])
