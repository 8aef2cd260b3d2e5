import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compresskit.errors import DataError
from zoo.frames.reach import reach
from zoo.frames.tiling import divide, run_tiles, smallest_side
from zoo.raw import CFA, NormalisedConvolution
from zoo.raw.methods.methods import METHODS

NOISE = np.random.default_rng(0)


def development(module, cfa):
    """Return the function from a part of a mosaic to its picture that `run_tiles` takes."""

    @torch.no_grad()
    def develop(part):
        mosaic = torch.from_numpy(np.ascontiguousarray(part, dtype=np.float32))
        return module(cfa.pack(mosaic[None, None]))[0].movedim(0, -1)

    return develop


def tiled_and_whole(module, cfa, frame, side):
    pixels = reach(module, cfa)
    assert pixels is not None
    size = {"period": cfa.period, "reach": pixels, "least": 16}
    tiles, whole = (divide(*frame.shape, **size, most=most) for most in ((side + 2 * pixels) ** 2, 10**9))
    assert len(whole) == 1 < len(tiles)
    develop = development(module, cfa)
    return run_tiles(develop, frame, tiles), run_tiles(develop, frame, whole)


@pytest.mark.parametrize("corrects", [False, True])
def test_pynet_qxq_in_tiles_makes_the_whole_frames_picture(corrects, network):
    module, frame = network(corrects=corrects), NOISE.random((403, 531), dtype=np.float32)
    tiles, whole = tiled_and_whole(module, CFA.of("qxq"), frame, 128)
    assert tiles.shape == (403, 531, 3)
    assert np.abs(tiles - whole).max() <= 1e-5
    assert whole.std() > 0.01


@pytest.mark.parametrize("cfa", ["bayer-rggb", "quad-bggr", "nona", "qxq-gbrg"])
@pytest.mark.parametrize("learned", [False, True])
def test_tiles_make_the_whole_frames_picture_for_every_array(learned, cfa, linear):
    module = (linear if learned else NormalisedConvolution)(cfa).eval()
    tiles, whole = tiled_and_whole(module, CFA.of(cfa), NOISE.random((97, 101), dtype=np.float32), 24)
    assert np.abs(tiles - whole).max() <= 1e-5


@pytest.mark.parametrize("name", [name for name in METHODS if "lmmse" not in name])
def test_tiles_make_the_whole_frames_picture_for_every_method(name):
    cfa = CFA.of("bayer")
    method = METHODS[name](cfa).eval()
    side = 2 * (reach(method, cfa) or 1000) + 40
    tiles, whole = tiled_and_whole(method, cfa, NOISE.random((side, side + 5), dtype=np.float32), 24)
    assert np.abs(tiles - whole).max() <= 1e-5


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(8, 90), st.integers(8, 90)),
    reach=st.integers(0, 20),
    spare=st.integers(0, 7000),
    multiple=st.sampled_from([1, 4, 16]),
    least=st.sampled_from([1, 24]),
)
def test_tiles_cover_every_pixel_once_with_their_surroundings(size, reach, spare, multiple, least):
    frame = np.arange(size[0] * size[1]).reshape(size)
    most = smallest_side(period=8, reach=reach, multiple=multiple, least=least) ** 2 + spare
    tiling = divide(*size, period=8, reach=reach, most=most, multiple=multiple, least=least)
    covered = np.zeros(size, int)
    unit = max(8, multiple)
    full = [max(-(-side // unit) * unit, -(-least // unit) * unit) for side in size]
    for tile in tiling:
        for span, whole in zip((tile.rows, tile.columns), full, strict=True):
            assert span.outer_start % unit == 0
            assert (span.outer_stop - span.outer_start) % unit == 0
            assert span.outer_stop - span.outer_start >= min(least, whole)
            assert span.start - span.outer_start >= min(reach, span.start)
            assert span.outer_stop - span.stop >= min(reach, whole - span.stop)
        assert tile.pixels <= most
        covered[tile.rows.start : tile.rows.stop, tile.columns.start : tile.columns.stop] += 1
        part = tiling.cut(frame, tile)
        assert part.shape == (
            tile.rows.outer_stop - tile.rows.outer_start,
            tile.columns.outer_stop - tile.columns.outer_start,
        )
    assert (covered == 1).all()
    assert tiling.work >= size[0] * size[1]


def test_a_frame_is_continued_past_its_sides_with_its_last_tile_of_the_array():
    frame = np.arange(5 * 6).reshape(5, 6)
    (tile,) = tiling = divide(5, 6, period=4, reach=0, most=64)
    assert tiling.cut(frame, tile)[:, 0].tolist() == [0, 6, 12, 18, 24, 6, 12, 18]  # rows 0..4, then 1, 2, 3
    assert tiling.cut(frame, tile)[0].tolist() == [0, 1, 2, 3, 4, 5, 2, 3]


def test_the_division_with_the_least_work_is_taken():
    # in strips 10 x 40 with 4 around: 2 x (14 x 40); in columns 20 x 20: 2 x (20 x 24); the columns are less
    tiling = divide(20, 40, period=2, reach=4, most=600)
    assert (len(tiling.rows), len(tiling.columns)) == (1, 2)


def test_a_frame_or_a_limit_that_is_too_small_is_refused():
    with pytest.raises(DataError, match="a frame of 3x90 pixels is smaller than one tile of its array, 8x8"):
        divide(3, 90, period=8, reach=8, most=10**6)
    with pytest.raises(DataError, match="100 pixels at once are too few: a tile with its surroundings takes 248x248"):
        divide(900, 900, period=8, reach=120, most=100)


def test_progress_counts_the_work():
    frame = np.zeros((64, 64), np.float32)
    tiling = divide(64, 64, period=2, reach=2, most=40 * 40)
    steps = []
    run_tiles(development(NormalisedConvolution("bayer"), CFA.of("bayer")), frame, tiling, advance=steps.append)
    assert sum(steps) == tiling.work > 64 * 64
    assert len(steps) == len(tiling) == 4
