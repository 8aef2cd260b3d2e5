from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor

from compresskit.errors import RecipeError
from compresskit.signature import check_arguments, option_names, takes


def _configured(
    first,
    *,
    count: int = 1,
    rate: float = 1.0,
    mode: Literal["fast", "slow"] = "fast",
    folder: Path | None = None,
    widths: Sequence[int] = (),
    scale: float | Tensor = 1.0,
    anything=None,
):
    """Every kind of annotation that a recipe's values meet."""
    return first, count, rate, mode, folder, widths, scale, anything


@pytest.mark.parametrize(
    "keywords",
    [
        {"count": 3, "rate": 2, "mode": "slow", "folder": "photos", "widths": [1, 2], "scale": 0.5, "anything": {}},
        {"folder": None, "scale": torch.ones(1), "anything": "text"},
        {"count": object()},  # no plain value: code may know better than its annotation
    ],
)
def test_arguments_that_fit_pass(keywords):
    check_arguments(_configured, keywords, positional=1, name="configured")


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"coutn": 1}, "configured has no option 'coutn'; did you mean 'count'?"),
        ({"first": 1}, "configured has no option 'first'"),
        ({"count": 1.5}, "count must be a whole number, got 1.5"),
        ({"count": True}, "count must be a whole number, got True"),
        ({"rate": "fast"}, "rate must be a number, got 'fast'"),
        ({"mode": "medium"}, "mode must be one of 'fast', 'slow', got 'medium'"),
        ({"folder": 3}, "folder must be a path or null, got 3"),
        ({"widths": 3}, "widths must be a list, got 3"),
        ({"scale": "big"}, "scale must be a number, got 'big'"),
    ],
)
def test_an_argument_that_does_not_fit_is_reported_with_the_nearest_right_name(keywords, message):
    with pytest.raises(RecipeError) as caught:
        check_arguments(_configured, keywords, positional=1, name="configured")
    assert str(caught.value).startswith(message)


def test_a_missing_argument_is_named():
    with pytest.raises(RecipeError, match="configured needs the key 'first'"):
        check_arguments(_configured, {}, name="configured", noun="key")


def test_a_function_that_takes_any_keyword_gets_no_check():
    def anything(student, teacher, **options):
        return student, teacher, options

    check_arguments(anything, {"whatever": 1}, positional=2, name="anything")
    assert option_names(anything) is None
    assert option_names(_configured, positional=1) == ["count", "rate", "mode", "folder", "widths", "scale", "anything"]


def test_whether_two_tensors_can_be_passed_tells_a_loss_from_a_factory():
    assert takes(torch.nn.functional.mse_loss, positional=2)
    assert takes(lambda *both: both, positional=2)
    assert takes(torch.dist, positional=2)  # a builtin does not tell its parameters
    assert not takes(lambda: None, positional=2)
    assert not takes(_configured, positional=2)
