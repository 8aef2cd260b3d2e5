import pytest
from torch import nn

from compresskit import Match, RecipeError
from compresskit.distill.spec.schedules import value_at


def ramp(progress, high=2.0):
    return high * progress


@pytest.mark.parametrize(
    ("shape", "values"),
    [("linear", [4.0, 3.0, 2.0, 1.0, 0.0]), ("constant", [4.0] * 5), ("cosine", [4.0, 3.4142, 2.0, 0.5858, 0.0])],
)
def test_a_schedule_starts_at_start_and_ends_at_end(shape, values):
    schedule = {"schedule": shape, "start": 4.0, "end": 0.0}
    assert [value_at(schedule, step, 5) for step in range(5)] == pytest.approx(values, abs=1e-4)


def test_a_user_s_own_schedule_is_a_function_of_the_progress():
    assert [value_at({"schedule": ramp}, step, 3) for step in range(3)] == [0.0, 1.0, 2.0]
    assert value_at({"schedule": ramp, "high": 8.0}, 1, 3) == 4.0
    assert Match("a", weight={"schedule": "torch.nn.functional.relu"}).weight["schedule"] == "torch.nn.functional.relu"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Match("a", weight={"schedule": "liner", "start": 1, "end": 0}), "did you mean 'linear'"),
        (lambda: Match("a", weight={"schedule": "math.cso"}), "has no 'cso'"),
        (lambda: Match("a", weight={"schedule": ramp, "hihg": 1}), "did you mean 'high'"),
        (lambda: Match("a", weight={"schedule": "linear", "start": 1}), "needs a number as 'end', got None"),
    ],
)
def test_an_error_in_a_schedule_names_the_right_answer(make, message):
    with pytest.raises(RecipeError) as caught:
        make()
    assert message in str(caught.value)


def test_a_schedule_for_an_option_of_a_class_is_refused():
    with pytest.raises(RecipeError, match="beta cannot follow a schedule"):
        Match("a", loss=nn.SmoothL1Loss, beta={"schedule": "linear", "start": 1.0, "end": 0.5})
