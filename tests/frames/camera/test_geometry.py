"""Colours and levels of each pixel, against the words of the DNG specification."""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from zoo.frames.read import read_mosaic
from zoo.raw import CFA

rawpy = pytest.importorskip("rawpy")

HEIGHT, WIDTH = 58, 70
VALUES = (1000 + np.arange(HEIGHT * WIDTH)).reshape(HEIGHT, WIDTH).astype(np.uint16)  # each tells its own place


def place(frame):
    """Return the row and the column of the frame's first pixel among all."""
    return divmod(int(frame.values[0, 0]) - 1000, WIDTH)


def stated_colours(cfa, shape, area, first):
    """Return the colour that the tags state for each pixel: the tile repeats from the active area's corner."""
    rows, columns = (np.arange(first[axis], first[axis] + shape[axis]) - area[axis] for axis in (0, 1))
    tile = np.array([list(row) for row in cfa])
    return tile[np.ix_(rows % tile.shape[0], columns % tile.shape[1])]


def colours(cfa, shape):
    tile = np.array([list(row) for row in cfa.tile])
    return tile[np.ix_(np.arange(shape[0]) % cfa.period, np.arange(shape[1]) % cfa.period)]


@pytest.mark.parametrize(("top", "left"), list(itertools.product((2, 3), (4, 5))))
def test_the_array_begins_at_the_active_areas_corner_whatever_its_parity(tmp_path, write, array, top, left):
    area = (top, left, HEIGHT - 1, WIDTH - 3)
    path = write(tmp_path / "a.dng", {"values": VALUES, "cfa": array, "area": area})
    frame = read_mosaic(path)
    assert np.array_equal(
        colours(frame.cfa, frame.values.shape), stated_colours(array, frame.values.shape, area, place(frame))
    )


@pytest.mark.parametrize(("top", "left"), list(itertools.product((2, 3), (4, 5))))
@pytest.mark.parametrize("array", [("RG", "GB"), ("GR", "BG")])
def test_a_bayer_array_has_the_colours_that_libraw_states(tmp_path, write, array, top, left):
    path = write(tmp_path / "a.dng", {"values": VALUES, "cfa": array, "area": (top, left, HEIGHT, WIDTH)})
    frame = read_mosaic(path)
    with rawpy.imread(str(path)) as raw:
        assert np.array_equal(frame.values, raw.raw_image_visible)
        letters = np.array(list("RGBG"))[raw.raw_colors_visible]
    assert np.array_equal(colours(frame.cfa, frame.values.shape), letters)


black_tiles = st.sampled_from([(1, 1), (2, 2), (4, 4), (8, 8), (2, 4), (1, 2)])


@example(corner=(0, 1), black_tile=(1, 1), seed=1182, by_row=False, by_column=True, order="<")  # the largest is cut off
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    corner=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    black_tile=black_tiles,
    seed=st.integers(0, 2**16),
    by_row=st.booleans(),
    by_column=st.booleans(),
    order=st.sampled_from("<>"),
)
def test_black_and_white_are_those_of_the_specification(
    tmp_path, write, read_linear, array, corner, black_tile, seed, by_row, by_column, order
):
    rng = np.random.default_rng(seed)
    area = (*corner, HEIGHT - 2, WIDTH - 1)
    size = area[2] - area[0], area[3] - area[1]
    black = rng.integers(0, 3000, black_tile) / 4
    row_deltas, column_deltas = rng.integers(-400, 400, size[0]) / 4, rng.integers(-400, 400, size[1]) / 4
    tags = {"tag_50716": ("S", row_deltas)} if by_row else {}
    tags |= {"tag_50715": ("S", column_deltas)} if by_column else {}
    page = {"values": VALUES, "cfa": array, "area": area, "white": 5100, "black_tile": black_tile}
    path = write(tmp_path / "a.dng", {**page, "black": black.flatten(), **tags}, order=order)

    # "the black level of each pixel is the sum of the tile's level, its row's and its column's; the differences are
    # scaled by the inverse of that of white and the largest black level, and clipped"
    level = np.tile(black, (-(-size[0] // black_tile[0]), -(-size[1] // black_tile[1])))[: size[0], : size[1]]
    level = level + (row_deltas[:, None] if by_row else 0) + (column_deltas if by_column else 0)
    largest = black.max() + (row_deltas.max() if by_row else 0) + (column_deltas.max() if by_column else 0)
    stored = VALUES[area[0] : area[2], area[1] : area[3]]
    expected = np.clip((stored - level) / (5100 - largest), 0, 1)

    frame, linear = read_linear(path)
    top, left = (first - start for first, start in zip(place(frame), area, strict=False))
    visible = expected[top : top + linear.shape[0], left : left + linear.shape[1]]
    np.testing.assert_allclose(linear, visible, atol=2e-6)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_mosaics_the_tags_are_those_of_the_one_that_is_read(tmp_path, write, order):
    small = {"values": VALUES[:24, :32], "cfa": ("BG", "GR"), "black": (5,), "tag_254": ("I", [1])}
    large = {"values": VALUES, "cfa": ("GR", "BG"), "black": (70,)}
    pages = [small, large]
    frame = read_mosaic(write(tmp_path / "a.dng", *(pages[at] for at in order)))
    assert frame.values.shape == VALUES.shape
    assert (frame.cfa, frame.black) == (CFA(["GR", "BG"]), 70)
    assert frame.remarks == ("holds 2 raw pages; that of 70x58 is read, not 32x24",)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_stands_upright_whatever_its_orientation(tmp_path, write, orientation):
    frame = read_mosaic(write(tmp_path / "a.dng", {"values": VALUES, "orientation": orientation}))
    # TIFF 6.0: the place of the 0th row and the 0th column
    upright = {
        1: VALUES,
        2: VALUES[:, ::-1],
        3: VALUES[::-1, ::-1],
        4: VALUES[::-1],
        5: VALUES.T,
        6: VALUES[::-1].T,
        7: VALUES[::-1, ::-1].T,
        8: VALUES[:, ::-1].T,
    }
    assert np.array_equal(frame.upright(frame.values), upright[orientation])
