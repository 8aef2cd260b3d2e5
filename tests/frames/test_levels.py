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


def _blown(pile, count, others=(), white=1000):
    """Return what a frame of 100 x 100 with this many full pixels is taken to clip at."""
    values = np.linspace(0, white, 10000).astype(np.uint16)
    values[: count + len(others)] = [*[pile] * count, *others]
    levels = Levels(cfa=CFA.of("bayer"), black=0.0, white=float(white))
    return lambda clip=None: check_levels(Frame(name="a", values=values.reshape(100, 100)), levels, clip)


def test_values_that_pile_up_above_white_are_where_the_sensor_clips():
    assert _blown(1020, 900)() == 1020
    assert _blown(1020, 900, range(1001, 1020))() == 1020  # the way up to full pixels
    assert _blown(1020, 5)() is None  # hot pixels
    assert _blown(1200, 800, [1195] * 100)() == 1200  # noise of the clipping itself


def test_each_colour_may_clip_at_a_value_of_its_own():
    values = np.full((100, 100), 500, np.uint16)
    values[:20:2, 1::2], values[1:20:2, ::2] = 1100, 1300  # red and blue of grbg
    levels = Levels(cfa=CFA.of("bayer"), black=0.0, white=1000.0)
    assert check_levels(Frame(name="a", values=values), levels) == 1300


@pytest.mark.parametrize("case", [_blown(4095, 900), _blown(1020, 300, range(1001, 1900))])
def test_values_of_more_bits_are_no_pile_unless_the_user_says_so(case):
    with pytest.raises(DataError, match=r"are above the white level 1000, up to \d+; are there more bits"):
        case()
    assert case(4095.0) == 4095


def test_clip_below_white_is_refused():
    with pytest.raises(DataError, match="a: --clip 900 is below white 1000; give it as --white"):
        _blown(1020, 900)(900.0)
