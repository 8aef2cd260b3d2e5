import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compresskit.errors import DataError
from zoo.frames.reach import peak_bytes, reach
from zoo.frames.tiling import divide, make, smallest_side
from zoo.pynet import PyNETQxQ
from zoo.raw import CFA, LMMSEPhase, NormalisedConvolution
from zoo.raw.methods.methods import METHODS

NOISE = np.random.default_rng(0)


def linear(cfa, radius=3):
    module = LMMSEPhase(cfa, radius=radius)
    generator = torch.Generator().manual_seed(1)
    module.load_state_dict(
        {name: torch.randn(tensor.shape, generator=generator) / 20 for name, tensor in module.state_dict().items()}
    )
    return module


def network(*, corrects):
    torch.manual_seed(2)
    made = PyNETQxQ(2, instance_norm_level_1=False, skip=linear("qxq") if corrects else None)
    torch.nn.init.normal_(made.conv_l0_d1.conv2d.weight, std=0.1)
    return made.eval()


def developed(module, cfa):
    """What `make` wants: from a part of a mosaic to its picture."""

    @torch.no_grad()
    def develop(part):
        mosaic = torch.from_numpy(np.ascontiguousarray(part, dtype=np.float32))
        return module(cfa.pack(mosaic[None, None]))[0].movedim(0, -1)

    return develop


def tiled_and_whole(module, cfa, frame, side):
    seen = reach(module, cfa)
    assert seen is not None
    size = {"period": cfa.period, "reach": seen, "least": 16}
    tiles, whole = (divide(*frame.shape, **size, most=most) for most in ((side + 2 * seen) ** 2, 10**9))
    assert len(whole) == 1 < len(tiles)
    develop = developed(module, cfa)
    return make(develop, frame, tiles), make(develop, frame, whole)


@pytest.mark.parametrize("corrects", [False, True])
def test_pynet_qxq_in_tiles_is_the_whole_frame(corrects):
    module, frame = network(corrects=corrects), NOISE.random((403, 531), dtype=np.float32)
    tiles, whole = tiled_and_whole(module, CFA.of("qxq"), frame, 128)
    assert tiles.shape == (403, 531, 3)
    assert np.abs(tiles - whole).max() <= 1e-5
    assert whole.std() > 0.01


@pytest.mark.parametrize("cfa", ["bayer-rggb", "quad-bggr", "nona", "qxq-gbrg"])
@pytest.mark.parametrize("method", [NormalisedConvolution, linear])
def test_any_array_in_tiles_is_the_whole_frame(method, cfa):
    tiles, whole = tiled_and_whole(method(cfa).eval(), CFA.of(cfa), NOISE.random((97, 101), dtype=np.float32), 24)
    assert np.abs(tiles - whole).max() <= 1e-5


@pytest.mark.parametrize("name", [name for name in METHODS if "lmmse" not in name])
def test_every_method_in_tiles_is_the_whole_frame(name):
    cfa = CFA.of("bayer")
    method = METHODS[name](cfa).eval()
    side = 2 * (reach(method, cfa) or 1000) + 40
    tiles, whole = tiled_and_whole(method, cfa, NOISE.random((side, side + 5), dtype=np.float32), 24)
    assert np.abs(tiles - whole).max() <= 1e-5


class Undecided(torch.nn.Module):
    """Looks three pixels to the right only to compare, which loses NaN."""

    def forward(self, packed):
        mosaic = CFA.of("bayer").unpack(packed)
        return torch.where(mosaic.roll(-3, -1) > 0.5, 1.0, 0.0).repeat(1, 3, 1, 1)


def test_what_is_only_compared_is_seen_too():
    assert reach(Undecided(), CFA.of("bayer")) == 4


def test_the_network_as_released_sees_115_pixels_and_its_skip_adds_to_them():
    cfa = CFA.of("qxq")
    assert reach(network(corrects=False), cfa) == 120  # 115, in whole tiles of 8
    # the skip's 3, twice the mean's 8 and the steering's, then 3 for its second use
    assert 120 + 8 < reach(network(corrects=True), cfa) <= 160


def test_instance_norm_sees_the_whole_frame():
    assert reach(PyNETQxQ(1).eval(), CFA.of("qxq"), farthest=256) is None


@pytest.mark.parametrize("radius", [1, 4, 7])
def test_a_linear_filter_sees_its_radius(radius):
    assert reach(linear("bayer", radius), CFA.of("bayer")) == -(-radius // 2) * 2


def test_peak_bytes_counts_what_lives_at_once():
    class Chain(torch.nn.Module):
        def forward(self, packed):
            doubled = packed * 2
            tripled = doubled + packed
            del doubled
            return torch.nn.functional.pixel_shuffle(tripled[:, :4].repeat(1, 3, 1, 1), 2)

    # 4 planes of 8x8 floats make 1024 bytes: then three (doubled, tripled), then tripled, repeated, shuffled: 1 + 3 + 3
    assert peak_bytes(Chain(), 16, 16) == 7 * 1024


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
    grid = divide(*size, period=8, reach=reach, most=most, multiple=multiple, least=least)
    covered = np.zeros(size, int)
    unit = max(8, multiple)
    full = [max(-(-side // unit) * unit, -(-least // unit) * unit) for side in size]
    for tile in grid:
        for span, whole in zip((tile.rows, tile.columns), full, strict=True):
            assert span.outer_start % unit == 0
            assert (span.outer_stop - span.outer_start) % unit == 0
            assert span.outer_stop - span.outer_start >= min(least, whole)
            assert span.start - span.outer_start >= min(reach, span.start)
            assert span.outer_stop - span.stop >= min(reach, whole - span.stop)
        assert tile.pixels <= most
        covered[tile.rows.start : tile.rows.stop, tile.columns.start : tile.columns.stop] += 1
        part = grid.cut(frame, tile)
        assert part.shape == (
            tile.rows.outer_stop - tile.rows.outer_start,
            tile.columns.outer_stop - tile.columns.outer_start,
        )
    assert (covered == 1).all()
    assert grid.work >= size[0] * size[1]


def test_past_its_sides_a_frame_goes_on_with_its_last_tile_of_the_array():
    frame = np.arange(5 * 6).reshape(5, 6)
    (tile,) = grid = divide(5, 6, period=4, reach=0, most=64)
    assert grid.cut(frame, tile)[:, 0].tolist() == [0, 6, 12, 18, 24, 6, 12, 18]  # rows 0..4, then 1, 2, 3
    assert grid.cut(frame, tile)[0].tolist() == [0, 1, 2, 3, 4, 5, 2, 3]


def test_the_division_with_the_least_work_is_taken():
    # in strips 10 x 40 with 4 around: 2 x (14 x 40); in columns 20 x 20: 2 x (20 x 24); the columns are less
    grid = divide(20, 40, period=2, reach=4, most=600)
    assert (len(grid.rows), len(grid.columns)) == (1, 2)


def test_what_cannot_be_divided_is_refused():
    with pytest.raises(DataError, match="a frame of 3x90 pixels is smaller than one tile of its array, 8x8"):
        divide(3, 90, period=8, reach=8, most=10**6)
    with pytest.raises(DataError, match="100 pixels at once are too few: a tile with its surroundings takes 248x248"):
        divide(900, 900, period=8, reach=120, most=100)


def test_progress_counts_the_work():
    frame = np.zeros((64, 64), np.float32)
    grid = divide(64, 64, period=2, reach=2, most=40 * 40)
    told = []
    make(developed(NormalisedConvolution("bayer"), CFA.of("bayer")), frame, grid, advance=told.append)
    assert sum(told) == grid.work > 64 * 64
    assert len(told) == len(grid) == 4
