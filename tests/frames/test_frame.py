import numpy as np
import pytest

from compresskit.errors import DataError
from zoo.frames.frame import repair_defects
from zoo.raw import CFA

QUAD = CFA.of("quad-rggb")


def test_a_defect_takes_the_mean_of_the_nearest_of_its_colour():
    values = np.arange(64, dtype=np.uint16).reshape(8, 8)
    defects = np.zeros((8, 8), bool)
    defects[0, 0] = True  # red: its block holds 1, 8 and 9
    defects[4:6, 4:6] = True  # the whole red block at rows and columns 4, 5
    repaired = repair_defects(values, defects, QUAD)
    assert repaired[0, 0] == 6
    # the reds within 3 of (4, 4): rows 1, 4, 5 and columns 1, 4, 5 without the block: 9, 12, 13, 33, 41
    assert repaired[4, 4] == round((9 + 12 + 13 + 33 + 41) / 5)
    assert np.array_equal(repaired[~defects], values[~defects])
    assert values[0, 0] == 0


def test_a_defect_may_be_nan():
    values = np.full((4, 4), 0.25)
    values[1, 2] = np.nan
    repaired = repair_defects(values, np.isnan(values), QUAD)
    assert (repaired == 0.25).all()


def test_a_map_of_another_size_or_without_sound_pixels_is_refused():
    with pytest.raises(DataError, match="the map of defects is 4x4 pixels, the frame 8x8"):
        repair_defects(np.zeros((8, 8)), np.zeros((4, 4), bool), QUAD)
    with pytest.raises(DataError, match="leaves no sound pixel around row 0, column 0"):
        repair_defects(np.zeros((8, 8)), np.ones((8, 8), bool), QUAD)
