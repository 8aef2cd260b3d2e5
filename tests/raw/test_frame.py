import numpy as np
import pytest
import torch

from compresskit.errors import DataError
from zoo.frames.frame import Frame, Levels, check, without_defects
from zoo.raw import CFA
from zoo.raw.sensor.encoding import converted, to_display, to_linear

QUAD = CFA.of("quad-rggb")


def test_levels_and_gains_by_hand():
    levels = Levels(cfa=CFA.of("bayer-rggb"), black=64.0, white=164.0, gains=(2.0, 1.0, 3.0))
    numbers = np.array([[64, 114, 164], [89, 74, 64]], np.uint16)
    expected = torch.tensor([[0.0, 0.5, 2.0], [0.25, 0.3, 0.0]])
    torch.testing.assert_close(levels.apply(numbers), expected)


def test_numbers_below_black_stay_negative():
    levels = Levels(cfa=QUAD, black=64.0, white=164.0)
    assert levels.apply(np.array([[54]], np.uint16)).item() == pytest.approx(-0.1)


def test_undo_gives_the_numbers_of_another_array():
    levels = Levels(cfa=QUAD, black=64.0, white=164.0, gains=(0.5, 1.0, 0.25))
    bayer = levels.undo(torch.tensor([[0.5, 0.5], [1.0, 0.25]]), CFA.of("bayer-rggb"))
    torch.testing.assert_close(bayer, torch.tensor([[164.0, 114.0], [164.0, 164.0]]))


def test_the_display_curve_has_srgbs_values_and_its_inverse():
    linear = torch.tensor([0.0, 0.0031308, 0.18, 0.5, 1.0])
    expected = torch.tensor([0.0, 0.04045, 0.46135, 0.73536, 1.0])
    torch.testing.assert_close(to_display(linear), expected, atol=1e-4, rtol=0)
    values = torch.linspace(-0.1, 2, 300, dtype=torch.float64)
    torch.testing.assert_close(to_linear(to_display(values)), values, atol=1e-7, rtol=0)
    assert converted(linear, "linear", "linear") is linear


def test_a_defect_takes_the_mean_of_the_nearest_of_its_colour():
    values = np.arange(64, dtype=np.uint16).reshape(8, 8)
    defects = np.zeros((8, 8), bool)
    defects[0, 0] = True  # red: its block holds 1, 8 and 9
    defects[4:6, 4:6] = True  # the whole red block at rows and columns 4, 5
    mended = without_defects(values, defects, QUAD)
    assert mended[0, 0] == 6
    # the reds within 3 of (4, 4): rows 1, 4, 5 and columns 1, 4, 5 without the block: 9, 12, 13, 33, 41
    assert mended[4, 4] == round((9 + 12 + 13 + 33 + 41) / 5)
    untouched = ~defects
    assert np.array_equal(mended[untouched], values[untouched])
    assert values[0, 0] == 0


def test_a_defect_may_be_nan():
    values = np.full((4, 4), 0.25)
    values[1, 2] = np.nan
    mended = without_defects(values, np.isnan(values), QUAD)
    assert (mended == 0.25).all()


def test_maps_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="the map of defects is 4x4 pixels, the frame 8x8"):
        without_defects(np.zeros((8, 8)), np.zeros((4, 4), bool), QUAD)
    with pytest.raises(DataError, match="leaves nothing sound around row 0, column 0"):
        without_defects(np.zeros((8, 8)), np.ones((8, 8), bool), QUAD)


def _check(values, **levels):
    check(Frame(name="a", values=np.asarray(values)), Levels(**{"cfa": QUAD, "black": 0.0, "white": 1023.0, **levels}))


def test_frames_that_cannot_be_what_their_levels_say_are_refused():
    with pytest.raises(DataError, match="a: 2 of 6 values are NaN or infinite; map them as defects"):
        _check([[0.1, np.nan, 0.2], [np.inf, 0.1, 0.2]], white=1.0)
    with pytest.raises(DataError, match=r"a: 50.0% of the values are above the white level 1023, up to 4000"):
        _check(np.array([[10, 4000]], np.uint16))
    with pytest.raises(DataError, match="a: black 64 must be below white 64"):
        _check(np.zeros((2, 2)), black=64.0, white=64.0)


def test_saturated_and_black_frames_and_a_few_hot_pixels_are_fine():
    _check(np.full((8, 8), 1023, np.uint16))
    _check(np.zeros((8, 8), np.uint16))
    hot = np.full((100, 100), 500, np.uint16)
    hot[3, 4] = 1100
    _check(hot)
