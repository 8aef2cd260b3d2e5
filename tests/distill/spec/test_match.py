import pytest
from torch import nn

from compresskit import Match, RecipeError, Task


def test_the_teacher_tap_defaults_to_the_student_tap():
    assert Match("layer3").teacher == "layer3"


def test_a_module_may_be_the_adapter_and_the_loss():
    match = Match("a", loss=nn.SmoothL1Loss(), adapter=nn.Conv2d(1, 1, 1))
    assert match.name == "SmoothL1Loss(a)"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Match("a", loss="msee"), "no loss 'msee'; did you mean 'mse'?"),
        (lambda: Match("a", loss="kl", temprature=4.0), "did you mean 'temperature'?"),
        (lambda: Match("a", weight=-1), "weight must be a number of at least 0 or a schedule, got -1"),
        (lambda: Match("a", weight="big"), "weight must be a number of at least 0 or a schedule, got 'big'"),
        (lambda: Match("a", adapter="atuo"), "adapter must be 'auto', null, a module or a node"),
        (lambda: Match("a#x"), "address 'a#x': cannot read '#x'"),
        (lambda: Task("mse", target="rgb"), "target must be null, a callable or a node"),
    ],
)
def test_an_error_names_the_field_and_the_right_answer(make, message):
    with pytest.raises(RecipeError) as caught:
        make()
    assert message in str(caught.value)
