import numpy as np
import pytest
import torch

from compresskit.errors import DataError
from zoo.frames.frame import Frame
from zoo.frames.levels import Levels, check_levels
from zoo.raw import CFA

QUAD = CFA.of("quad-rggb")


def test_levels_and_gains_by_hand():
    levels = Levels(cfa=CFA.of("bayer-rggb"), black=64.0, white=164.0, gains=(2.0, 1.0, 3.0))
    numbers = np.array([[64, 114, 164], [89, 74, 64]], np.uint16)
    expected = torch.tensor([[0.0, 0.5, 2.0], [0.25, 0.3, 0.0]])
    torch.testing.assert_close(levels.apply(numbers), expected)


def test_numbers_below_black_stay_negative():
    levels = Levels(cfa=QUAD, black=64.0, white=164.0)
    assert levels.apply(np.array([[54]], np.uint16)).item() == pytest.approx(-0.1)


def test_undo_returns_the_numbers_of_another_array():
    levels = Levels(cfa=QUAD, black=64.0, white=164.0, gains=(0.5, 1.0, 0.25))
    bayer = levels.undo(torch.tensor([[0.5, 0.5], [1.0, 0.25]]), CFA.of("bayer-rggb"))
    torch.testing.assert_close(bayer, torch.tensor([[164.0, 114.0], [164.0, 164.0]]))


def _check(values, **levels):
    check_levels(
        Frame(name="a", values=np.asarray(values)), Levels(**{"cfa": QUAD, "black": 0.0, "white": 1023.0, **levels})
    )


def test_numbers_that_contradict_their_levels_are_refused():
    with pytest.raises(DataError, match="a: 2 of 6 values are NaN or infinite; map them as defects"):
        _check([[0.1, np.nan, 0.2], [np.inf, 0.1, 0.2]], white=1.0)
    with pytest.raises(DataError, match=r"a: 50.0% of the values are above the white level 1023, up to 4000"):
        _check(np.array([[10, 4000]], np.uint16))
    with pytest.raises(DataError, match="a: black 64 must be below white 64"):
        _check(np.zeros((2, 2)), black=64.0, white=64.0)


def test_saturated_and_black_frames_and_a_few_hot_pixels_are_accepted():
    _check(np.full((8, 8), 1023, np.uint16))
    _check(np.zeros((8, 8), np.uint16))
    hot = np.full((100, 100), 500, np.uint16)
    hot[3, 4] = 1100
    _check(hot)
