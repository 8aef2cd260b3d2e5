import math

import pytest

from compresskit.recipe.scoring.bootstrap import interval


def test_two_values_resample_to_one_the_mean_or_the_other():
    # the mean of two picks is 0, 1 or 2 with chances 1/4, 1/2, 1/4: both ends lie in the outer quarters
    assert interval([0.0, 2.0]) == (0.0, 2.0)


def test_equal_values_have_no_spread():
    assert interval([3.0] * 5) == (3.0, 3.0)


def test_many_values_come_near_the_normal_interval():
    values = [0.0, 1.0] * 200  # standard deviation 1/2, of the mean of 400: 1/40
    low, high = interval(values)
    assert low == pytest.approx(0.5 - 1.96 / 40, abs=0.003)
    assert high == pytest.approx(0.5 + 1.96 / 40, abs=0.003)


def test_equal_values_give_equal_intervals():
    assert interval([1.0, 2.0, 4.0]) == interval([1.0, 2.0, 4.0])


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.inf], [1.0, math.nan]])
def test_there_is_no_interval_of_fewer_than_two_values_or_of_infinite_ones(values):
    assert interval(values) is None
