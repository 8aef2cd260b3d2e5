"""Levels, corrections and remarks of camera files."""

import numpy as np
import pytest

from compresskit.errors import DataError
from tests.frames.camera.conftest import gain_map
from zoo.frames.levels import Input
from zoo.frames.read import read_mosaic

pytest.importorskip("rawpy")

VALUES = np.random.default_rng(1).integers(100, 900, (40, 60)).astype(np.uint16)


def test_a_gain_map_multiplies_the_light_above_black(tmp_path, write, read_linear):
    gains = gain_map([[1.0, 2.0], [1.0, 2.0]], area=(0, 0, 40, 60))
    frame, linear = read_linear(write(tmp_path / "a.dng", {"values": VALUES, "tag_51009": ("U", gains)}))
    gain = 1 + (np.arange(60) + 0.5) / 60  # pixel centres, as shares of the width
    np.testing.assert_allclose(linear, np.clip((VALUES - 64) / 959 * gain, 0, 1), atol=1e-6)
    assert frame.remarks == ("its gain map is applied",)


def test_a_gain_map_may_be_for_one_place_of_the_array_and_a_part_of_the_active_area(tmp_path, write, read_linear):
    gains = gain_map([[2.0]], area=(1, 2, 30, 60), pitch=(2, 2))
    page = {"values": VALUES, "area": (2, 2, 40, 60), "tag_51009": ("U", gains)}
    _, linear = read_linear(write(tmp_path / "a.dng", page))
    gain = np.ones((38, 58))
    gain[1:30:2, 2::2] = 2
    np.testing.assert_allclose(linear, np.clip((VALUES[2:, 2:] - 64) / 959 * gain, 0, 1), atol=1e-6)


def test_a_gain_map_for_pictures_is_applied_to_the_pixels_of_its_colour(tmp_path, write, read_linear):
    gains = gain_map([[2.0]], area=(0, 0, 40, 60), planes=(0, 1))
    _, linear = read_linear(write(tmp_path / "a.dng", {"values": VALUES, "tag_51022": ("U", gains)}))
    gain = np.ones((40, 60))
    gain[::2, ::2] = 2  # red
    np.testing.assert_allclose(linear, np.clip((VALUES - 64) / 959 * gain, 0, 1), atol=1e-6)


def test_corrections_that_are_not_applied_are_named(tmp_path, write):
    warp = bytes([0, 0, 0, 2]) + bytes([0, 0, 0, 1, 1, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    warp += bytes([0, 0, 0, 77, 1, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 9])
    frame = read_mosaic(write(tmp_path / "a.dng", {"values": VALUES, "tag_51022": ("U", warp)}))
    assert frame.remarks == ("asks for corrections that are not applied: WarpRectilinear, opcode 77",)


def test_a_masked_border_that_contradicts_black_is_mentioned(tmp_path, write):
    values = np.pad(VALUES, ((0, 0), (8, 0)), constant_values=80)
    page = {"values": values, "area": (0, 8, 40, 68), "tag_50830": ("I", [0, 0, 40, 8])}
    frame = read_mosaic(write(tmp_path / "a.dng", page))
    assert (frame.black, frame.remarks) == (64, ("says that black is 64, and its masked border is 80 on average",))
    assert read_mosaic(write(tmp_path / "b.dng", {**page, "black": (81,)})).remarks == ()


def test_a_file_without_white_balance_is_mentioned_unless_the_user_states_one(tmp_path, write, capsys):
    path = write(tmp_path / "a.dng", {"values": VALUES, "neutral": None})
    Input().read(path, None)
    assert "a.dng: states no white balance: its colours stay as the sensor sees them" in capsys.readouterr().err
    Input(gains=(2.0, 1.0, 2.0)).read(path, None)
    assert capsys.readouterr().err == ""


def test_the_user_overrides_the_black_levels_of_the_file(tmp_path, write):
    path = write(tmp_path / "a.dng", {"values": VALUES, "black": (60, 70, 80, 90), "black_tile": (2, 2)})
    frame, levels = Input(black=50.0).read(path, None)
    assert levels.black == 50
    assert np.array_equal(frame.values, VALUES)


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ({"photometric": 34892}, "a.dng is monochrome: there is nothing to demosaic"),
        ({"cfa": ("RG", "GC")}, "a.dng has an array of red, green, cyan; only arrays of red, green and blue are known"),
        ({"cfa": ("WG", "RB")}, "a.dng has an array of red, green, blue, white; only"),
        ({"tag_50711": ("H", [2])}, "a.dng has staggered rows or columns"),
        ({"black": (2000,)}, "a: black 2000 must be below white 1023"),
        ({"black": (2000, 2001, 1, 2), "black_tile": (2, 2)}, "a: black 2001 must be below white 1023"),
    ],
)
def test_a_file_that_cannot_be_demosaiced_is_refused_with_the_reason(tmp_path, write, page, message):
    path = write(tmp_path / "a.dng", {"values": VALUES, **page})
    with pytest.raises(DataError, match=message):
        Input().read(path, None)


def test_pixels_of_several_colours_are_no_mosaic(tmp_path, write):
    picture = np.stack([VALUES] * 3, axis=2)
    path = write(tmp_path / "a.dng", {"values": picture, "photometric": 34892, "tag_50714": ("R", [64] * 3)})
    with pytest.raises(DataError, match=r"a.dng is no mosaic: its pixels have several colours each"):
        read_mosaic(path)


def test_a_camera_file_may_have_any_ending_that_libraw_knows(tmp_path, write):
    for name in ("a.dng", "a.raw", "a.nef", "a.new"):
        assert np.array_equal(read_mosaic(write(tmp_path / name, {"values": VALUES})).values, VALUES)
