import pytest
import torch

from zoo.raw.scoring.sheet import worst_squares
from zoo.raw.scoring.side_by_side import CROP


def test_the_two_worst_squares_of_a_photograph_do_not_overlap_and_the_worst_comes_first():
    error = torch.zeros(300, 400)
    error[40:120, 100:180] = 1.0
    error[250:260, 300:310] = 0.5
    first, second = worst_squares(7, error, border=16)
    assert (first.photograph, first.side, first.error) == (7, CROP, pytest.approx(80 * 80 / CROP**2))
    assert first.top <= 40
    assert first.top + CROP >= 120
    assert second.top <= 250 < 260 <= second.top + CROP
    assert second.left <= 300 < 310 <= second.left + CROP
