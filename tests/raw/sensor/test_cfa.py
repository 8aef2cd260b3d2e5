import warnings
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from compresskit.errors import RecipeError, ShapeError
from zoo.raw import CFA
from zoo.raw.sensor import four_axes
from zoo.raw.sensor.cfa import BLOCKS, PHASES

arrays = st.sampled_from([CFA.named(name, phase) for name in BLOCKS for phase in PHASES])
tiles = st.integers(1, 3)
dtypes = st.sampled_from([torch.uint8, torch.int32, torch.float16, torch.float64])


@given(arrays, tiles, tiles, dtypes)
def test_unpack_is_the_exact_inverse_of_pack(cfa, rows, columns, dtype):
    mosaic = torch.randint(0, 200, (2, 1, rows * cfa.period, columns * cfa.period)).to(dtype)
    packed = cfa.pack(mosaic)
    assert packed.shape == (2, 4, mosaic.shape[2] // 2, mosaic.shape[3] // 2)
    assert packed.dtype == dtype
    assert torch.equal(cfa.unpack(packed), mosaic)


@given(arrays, tiles, tiles)
def test_pack_is_the_exact_inverse_of_unpack(cfa, rows, columns):
    packed = torch.rand(1, 4, rows * cfa.block, columns * cfa.block)
    assert torch.equal(cfa.pack(cfa.unpack(packed)), packed)


@given(arrays, tiles, tiles)
def test_planes_are_blue_green_red_green_for_every_array_and_phase(cfa, rows, columns):
    numbered = torch.tensor([1, 2, 3])[None, :, None, None]
    picture = numbered.expand(1, 3, rows * cfa.period, columns * cfa.period)
    blue, green_of_red, red, green_of_blue = cfa.pack(cfa.mosaic(picture))[0]
    assert [plane.unique().tolist() for plane in (blue, green_of_red, red, green_of_blue)] == [[3], [2], [1], [2]]


@given(arrays)
def test_the_first_green_plane_lies_in_the_rows_of_red(cfa):
    row_of = torch.arange(cfa.period).view(1, 1, -1, 1).expand(1, 1, cfa.period, cfa.period)
    _, green_of_red, red, _ = cfa.pack(row_of)[0]
    assert torch.equal(green_of_red, red)


def test_the_default_is_qxq_with_red_top_right_and_blue_bottom_left():
    assert CFA.named().tile == ("GGGGRRRR",) * 4 + ("BBBBGGGG",) * 4
    assert (CFA.named().period, CFA.named().block, CFA.named().phase) == (8, 4, "grbg")


def test_packing_a_bayer_mosaic_takes_every_second_pixel():
    mosaic = torch.rand(1, 1, 6, 8)
    expected = [mosaic[0, 0, i::2, j::2] for i, j in ((1, 0), (0, 0), (0, 1), (1, 1))]
    assert torch.equal(CFA.of("bayer").pack(mosaic)[0], torch.stack(expected))


def test_packing_lays_blocks_of_one_colour_side_by_side():
    mosaic = torch.arange(4 * 8).view(1, 1, 4, 8)  # quad: two tiles
    blue, green_of_red, red, green_of_blue = CFA.of("quad").pack(mosaic)[0].tolist()
    assert blue == [[16, 17, 20, 21], [24, 25, 28, 29]]
    assert green_of_red == [[0, 1, 4, 5], [8, 9, 12, 13]]
    assert red == [[2, 3, 6, 7], [10, 11, 14, 15]]
    assert green_of_blue == [[18, 19, 22, 23], [26, 27, 30, 31]]


def test_packing_equals_the_boolean_masks_of_the_released_code():
    mosaic = torch.rand(1, 1, 16, 24)
    place = torch.tensor([[1, 2], [0, 3]]).repeat_interleave(4, 0).repeat_interleave(4, 1).repeat(2, 3)
    expected = [mosaic[0, 0][place == plane].view(8, 12) for plane in range(4)]
    assert torch.equal(CFA.named().pack(mosaic)[0], torch.stack(expected))


def test_a_mosaic_has_the_colour_of_each_pixels_filter():
    picture = torch.rand(1, 3, 4, 4)
    mosaic = CFA.of("bayer-rggb").mosaic(picture)[0, 0]
    assert torch.equal(mosaic[::2, ::2], picture[0, 0, ::2, ::2])
    assert torch.equal(mosaic[::2, 1::2], picture[0, 1, ::2, 1::2])
    assert torch.equal(mosaic[1::2, ::2], picture[0, 1, 1::2, ::2])
    assert torch.equal(mosaic[1::2, 1::2], picture[0, 2, 1::2, 1::2])


@given(arrays)
def test_separate_puts_each_value_into_the_channel_of_its_mask(cfa):
    picture = torch.rand(2, 3, 2 * cfa.period, cfa.period)
    masks = cfa.masks(2 * cfa.period, cfa.period)
    assert torch.equal(cfa.separate(cfa.mosaic(picture)), picture * masks)
    assert torch.equal(masks.sum(0), torch.ones(2 * cfa.period, cfa.period))


def test_a_tile_without_blocks_can_be_mosaicked_but_not_packed():
    cfa = CFA(["RGB", "GBR", "BRG"])
    picture = torch.rand(1, 3, 6, 3)
    assert torch.equal(cfa.separate(cfa.mosaic(picture)), picture * cfa.masks(6, 3))
    with pytest.raises(ShapeError, match="has no planes to pack"):
        cfa.pack(cfa.mosaic(picture))


@given(arrays, st.tuples(*[st.integers(0, 20)] * 4))
def test_extending_a_mosaic_keeps_the_phase(cfa, pixels):
    flat = cfa.mosaic(torch.tensor([1, 2, 3])[None, :, None, None].expand(1, 3, 72, 72))
    left, right, top, bottom = pixels
    extended = cfa.extend(flat[..., 24:48, 24:48], pixels)  # 24 is a multiple of every period
    assert torch.equal(extended, flat[..., 24 - top : 48 + bottom, 24 - left : 48 + right])


class RoundTrip(nn.Module):
    cfa = CFA.of("qxq")

    def forward(self, picture):
        return self.cfa.separate(self.cfa.unpack(2 * self.cfa.pack(self.cfa.mosaic(picture))))


@pytest.mark.usefixtures("unchecked_shapes")
def test_a_trace_is_right_for_other_inputs_and_sizes():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.trace.* is deprecated", category=FutureWarning)
        traced: Any = torch.jit.trace(RoundTrip(), torch.rand(1, 3, 16, 24))
    picture = torch.rand(2, 3, 32, 8)
    assert torch.equal(traced(picture), RoundTrip()(picture))


def test_an_export_is_right_for_other_inputs_and_sizes():
    sizes = {0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    exported = torch.export.export(RoundTrip(), (torch.rand(2, 3, 16, 24),), dynamic_shapes=(sizes,)).module()
    picture = torch.rand(3, 3, 32, 40)
    assert torch.equal(exported(picture), RoundTrip()(picture))


def test_arrays_with_the_same_tile_are_equal():
    assert CFA.of("bayer") == CFA(["gr", "bg"])
    assert len({CFA.of("bayer"), CFA.of("bayer-grbg"), CFA.of("bayer-rggb")}) == 2
    assert repr(CFA.of("quad-rggb")) == "CFA(quad-rggb)"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CFA.of("qxx"), "there is no CFA 'qxx'; did you mean 'qxq'?"),
        (lambda: CFA.of("quad-rgbg"), "there is no CFA phase 'rgbg'; did you mean"),
        (lambda: CFA(["GR"]), "must be square, got GR"),
        (lambda: CFA(["WR", "BG"]), "written in R, G and B, got 'W' in WR / BG"),
    ],
)
def test_an_impossible_array_is_refused(make, message):
    with pytest.raises(RecipeError) as caught:
        make()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("method", "shape", "message"),
    [
        ("pack", (1, 1, 12, 20), "multiples of 8, got 12x20; nearest: 8x16 or 16x24"),
        ("pack", (1, 1, 16, 20), "multiples of 8, got 16x20; nearest: 16x16 or 16x24"),
        ("pack", (1, 3, 16, 16), "a mosaic must be (n, 1, height, width), got (1, 3, 16, 16)"),
        ("unpack", (1, 4, 2, 4), "multiples of 4, got 2x4; nearest: 4x4"),
        ("mosaic", (1, 3, 0, 8), "multiples of 8, got 0x8; nearest: 8x8"),
    ],
)
def test_a_size_that_the_period_does_not_divide_is_refused_with_the_nearest_ones(method, shape, message):
    with pytest.raises(ShapeError) as caught:
        getattr(CFA.of("qxq"), method)(torch.zeros(shape))
    assert message in str(caught.value)


XTRANS = CFA(["GGRGGB", "GGBGGR", "BRGRBG", "GGBGGR", "GGRGGB", "RBGBRG"])


def test_a_tile_without_blocks_is_its_own_input_and_has_a_name_that_can_be_read():
    mosaic = torch.rand(1, 1, 12, 18)
    assert torch.equal(XTRANS.from_input(XTRANS.to_input(mosaic)), mosaic)
    assert torch.equal(CFA.of("quad").to_input(mosaic[..., :16]), CFA.of("quad").pack(mosaic[..., :16]))
    assert CFA.of(XTRANS.name) == XTRANS


def test_the_grain_is_the_side_of_a_block_and_1_in_arrays_of_single_pixels():
    assert [CFA.of(name).grain for name in BLOCKS] == [1, 2, 3, 4]
    assert (XTRANS.grain, CFA(["RGB", "GBR", "BRG"]).grain) == (1, 1)
    assert CFA(["RGGG", "GGGG", "GGBG", "GGGG"]).grain == 2  # squares of 3 pixels lack red


@given(arrays)
def test_an_exported_graph_selects_the_same_numbers_by_convolutions(cfa):
    picture = torch.rand(2, 3, 2 * cfa.period, 3 * cfa.period)
    mosaic, positions = cfa.mosaic(picture), cfa._plane_positions()
    assert torch.equal(four_axes.mosaic(picture, cfa._mask_array), mosaic)
    assert torch.equal(four_axes.separate(mosaic, cfa._mask_array), cfa.separate(mosaic))
    assert torch.equal(four_axes.pack(mosaic, cfa.block, positions), cfa.pack(mosaic))
    assert torch.equal(four_axes.unpack(cfa.pack(mosaic), cfa.block, positions), mosaic)
