import pytest
from torch import nn

from compresskit import Match, RecipeError, Stage, Task, curricula
from compresskit.distill.spec.schedules import value_at


def ramp(progress, high=2.0):
    return high * progress


def test_a_schedule_of_one_s_own_is_a_function_of_the_progress():
    assert [value_at({"schedule": ramp}, step, 3) for step in range(3)] == [0.0, 1.0, 2.0]
    assert value_at({"schedule": ramp, "high": 8.0}, 1, 3) == 4.0
    assert Match("a", weight={"schedule": "torch.nn.functional.relu"}).weight["schedule"] == "torch.nn.functional.relu"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Match("a", loss="msee"), "no loss 'msee'; did you mean 'mse'?"),
        (lambda: Match("a", loss="kl", temprature=4.0), "did you mean 'temperature'?"),
        (lambda: Match("a", weight=-1), "weight must be a number of at least 0 or a schedule, got -1"),
        (lambda: Match("a", weight="big"), "weight must be a number of at least 0 or a schedule, got 'big'"),
        (lambda: Match("a", weight={"schedule": "liner", "start": 1, "end": 0}), "did you mean 'linear'"),
        (lambda: Match("a", weight={"schedule": "math.cso"}), "has no 'cso'"),
        (lambda: Match("a", weight={"schedule": ramp, "hihg": 1}), "did you mean 'high'"),
        (lambda: Match("a", weight={"schedule": "linear", "start": 1}), "needs a number as 'end', got None"),
        (lambda: Match("a", adapter="atuo"), "adapter must be 'auto', null, a module or a node"),
        (lambda: Match("a#x"), "address 'a#x': cannot read '#x'"),
        (lambda: Task("mse", target="rgb"), "target must be null, a callable or a node"),
        (lambda: Stage("s", steps=5), "stage 's': it has neither matches nor tasks"),
        (lambda: Stage("s", tasks=[Task("mse")]), "stage 's': neither steps nor epochs; give one of them"),
        (lambda: Stage("s", tasks=[Task("mse")], steps=5, epochs=1), "stage 's': both steps and epochs"),
        (lambda: Stage("s", tasks=[Task("mse")], steps="ten"), "steps must be a whole number of at least 1, got 'ten'"),
        (lambda: Stage("s", tasks=[Task("mse")], steps=0), "steps must be a whole number of at least 1, got 0"),
        (lambda: Stage("s", tasks=[Task("mse")], steps=1, accumulate=True), "accumulate must be a whole number"),
        (lambda: Stage("s", tasks=[Task("mse")], steps=1, clip=0), "clip must be a number above 0, got 0"),
        (lambda: Stage("s", tasks=[Task("mse")], steps=1, train="conv*"), "train must be a list of globs"),
        (lambda: Stage("s", matches=["a"], steps=1), "matches must be a list of Match objects"),
        (lambda: curricula.progressive([Match("a")], steps=5, mode="cumulativ"), "did you mean 'cumulative'"),
        (lambda: curricula.progressive([Match("a")], steps=[1, 2]), "2 numbers for 1 matches"),
        (lambda: curricula.progressive([], steps=5), "progressive needs at least one"),
        (lambda: curricula.progressive([Match("a")], steps="ten"), "steps must be a whole number"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_found(make, message):
    with pytest.raises(RecipeError) as caught:
        make()
    assert message in str(caught.value)


def test_the_teacher_tap_defaults_to_the_student_tap():
    assert Match("layer3").teacher == "layer3"


def test_terms_with_one_name_are_told_apart():
    stage = Stage("s", matches=[Match("a"), Match("a"), Match("a", loss="l1")], steps=1)
    assert list(stage.terms) == ["mse(a)", "mse(a)#2", "l1(a)"]


def test_progressive_cumulative_keeps_earlier_points_and_trains_what_feeds_them():
    stages = curricula.progressive([Match("a"), Match("b"), Match(".")], steps=[1, 2, 3], tasks=[Task("mse")])
    assert [[m.student for m in s.matches] for s in stages] == [["a"], ["a", "b"], ["a", "b", "."]]
    assert [s.train for s in stages] == ["upstream", "upstream", ("*",)]
    assert [len(s.tasks) for s in stages] == [0, 0, 1]
    assert [s.steps for s in stages] == [1, 2, 3]


def test_in_turn_learns_one_task_after_the_other_and_all_that_feeds_it():
    stages = curricula.in_turn([Task("mse", "a"), Task("l1")], steps=[3, 4], clip=1.0)
    assert [(s.name, s.tasks[0].loss, s.train, s.steps, s.clip) for s in stages] == [
        ("1-a", "mse", "upstream", 3, 1.0),
        ("2-output", "l1", "upstream", 4, 1.0),
    ]


def test_progressive_isolated_has_one_point_at_a_time_and_trains_what_lies_between():
    stages = curricula.progressive([Match("a"), Match("b"), Match(".")], steps=4, mode="isolated", clip=1.0)
    assert [[m.student for m in s.matches] for s in stages] == [["a"], ["b"], ["."]]
    assert [s.train for s in stages] == ["between", "between", ("*",)]
    assert all(s.clip == 1.0 for s in stages)


@pytest.mark.parametrize(
    ("shape", "values"),
    [("linear", [4.0, 3.0, 2.0, 1.0, 0.0]), ("constant", [4.0] * 5), ("cosine", [4.0, 3.4142, 2.0, 0.5858, 0.0])],
)
def test_a_schedule_begins_at_start_and_ends_at_end(shape, values):
    schedule = {"schedule": shape, "start": 4.0, "end": 0.0}
    assert [value_at(schedule, step, 5) for step in range(5)] == pytest.approx(values, abs=1e-4)


def test_a_module_is_taken_as_adapter_and_as_loss():
    match = Match("a", loss=nn.SmoothL1Loss(), adapter=nn.Conv2d(1, 1, 1))
    assert match.name == "SmoothL1Loss(a)"
