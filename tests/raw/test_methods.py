import sys

import pytest
import torch

from compresskit.errors import DataError, RecipeError, ShapeError
from zoo.raw import CFA, BinBicubic, LMMSEPhase, Malvar, NormalisedConvolution, PhotographFrames, Remosaic
from zoo.raw.methods.menon import Menon
from zoo.raw.methods.methods import METHODS, UNFITTED
from zoo.raw.methods.steered import SteeredKernelRegression, _Kernels
from zoo.raw.sensor.cfa import BLOCKS, PHASES

ARRAYS = [f"{name}-{phase}" for name in BLOCKS for phase in PHASES]


def sense(cfa, picture):
    return CFA.of(cfa).pack(CFA.of(cfa).mosaic(picture))


def flat(height, width):
    return torch.tensor([0.2, 0.6, 0.9])[None, :, None, None].expand(1, 3, height, width)


@pytest.mark.parametrize("cfa", ARRAYS)
@pytest.mark.parametrize("method", [SteeredKernelRegression, Remosaic])
def test_a_picture_of_one_colour_is_restored(method, cfa):
    torch.testing.assert_close(method(cfa)(sense(cfa, flat(24, 48))), flat(24, 48), atol=1e-4, rtol=0)


@pytest.mark.parametrize("cfa", ARRAYS)
def test_steered_kernels_keep_what_was_sensed(cfa):
    picture = torch.rand(1, 3, 24, 48)
    restored = SteeredKernelRegression(cfa)(sense(cfa, picture))
    assert torch.equal(CFA.of(cfa).mosaic(restored), CFA.of(cfa).mosaic(picture))


@pytest.mark.parametrize("cfa", BLOCKS)
def test_one_tile_is_enough_of_a_mosaic(cfa):
    side = CFA.of(cfa).period
    assert SteeredKernelRegression(cfa)(sense(cfa, torch.rand(1, 3, side, side))).isfinite().all()


def test_a_round_kernel_is_the_gaussian():
    kernels = _Kernels.along(torch.zeros(1, 3, 1, 9), sigma=2.0, reach=4)
    point = torch.zeros(1, 1, 1, 9)
    point[..., 4] = 1.0
    expected = torch.exp(-(torch.arange(-4.0, 5.0) ** 2) / 8)
    torch.testing.assert_close(kernels.sums(point)[0, 0, 0], expected)


def test_a_kernel_is_short_across_an_edge_and_long_along_it():
    upright = torch.zeros(1, 3, 9, 9)
    upright[:, 0] = 1.0  # all gradients are horizontal: the edge runs from top to bottom
    point = torch.zeros(1, 1, 9, 9)
    point[..., 4, 4] = 1.0
    kernel = _Kernels.along(upright, sigma=2.0, reach=4).sums(point)[0, 0]
    # squared axes 2² / 8 and 2² * 8
    assert float(kernel[4, 5]) == pytest.approx(torch.exp(torch.tensor(-0.5 * 8 / 4)).item(), rel=1e-4)
    assert float(kernel[5, 4]) == pytest.approx(torch.exp(torch.tensor(-0.5 / 8 / 4)).item(), rel=1e-4)


def test_kernels_that_follow_edges_are_far_better_on_a_slanted_one():
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    picture = (0.2 + 0.6 * torch.sigmoid(2 * (x - 40 - y / 4)))[None, None] * torch.tensor([1, 0.8, 0.6])[:, None, None]
    inside = (..., slice(16, -16), slice(16, -16))
    errors = [
        (method("qxq")(sense("qxq", picture)) - picture)[inside].square().mean()
        for method in (NormalisedConvolution, SteeredKernelRegression)
    ]
    assert errors[1] < errors[0] / 4


def test_it_is_above_normalised_convolution_on_photographs():
    for packed, picture in PhotographFrames("bundled:test"):
        part = packed[:, 80:144, 80:144]
        truth = picture[:, 160:288, 160:288]
        found = [m("qxq")(part[None])[0] for m in (NormalisedConvolution, SteeredKernelRegression)]
        errors = [(one - truth)[:, 16:-16, 16:-16].square().mean() for one in found]
        assert errors[1] < 0.7 * errors[0]


def test_without_differences_each_colour_is_interpolated_by_itself():
    picture = torch.rand(1, 3, 48, 48)
    other = picture * torch.tensor([1.0, 0.3, 1.0])[None, :, None, None]
    one, two = (NormalisedConvolution("quad", differences=False)(sense("quad", p)) for p in (picture, other))
    torch.testing.assert_close(one[:, ::2], two[:, ::2])
    assert not torch.allclose(one[:, 1], two[:, 1])


@pytest.mark.parametrize("phase", PHASES)
def test_a_remosaic_passes_on_what_both_arrays_sense(phase):
    picture, cfa, bayer = torch.rand(1, 3, 16, 24), CFA.named("qxq", phase), CFA.named("bayer", phase)
    mosaic = Remosaic(cfa, bayer="malvar").remosaic(sense(cfa, picture))
    same = (cfa.masks(16, 24) & bayer.masks(16, 24)).any(0)
    assert torch.equal(mosaic[0, 0][same], bayer.mosaic(picture)[0, 0][same])
    assert 0 < same.float().mean() < 1


def test_a_remosaic_takes_the_rest_from_another_method():
    class Grey(torch.nn.Module):
        def forward(self, packed):
            return torch.full_like(packed[:, :3], 0.5).repeat(1, 1, 2, 2)

    mosaic = Remosaic("quad-rggb", first=Grey()).remosaic(torch.ones(1, 4, 8, 8))
    # R R G G / R R G G / G G B B / G G B B   under   R G R G / G B G B: the same at one pixel of two in green, one of
    # four in red and in blue
    expected = torch.full((4, 4), 0.5)
    for row, column in ((0, 0), (0, 3), (1, 2), (2, 1), (3, 0), (3, 3)):
        expected[row, column] = 1.0
    assert torch.equal(mosaic[0, 0, :4, :4], expected)


@pytest.mark.parametrize("phase", PHASES)
def test_menon_knows_the_phase(phase):
    picture = torch.rand(2, 3, 16, 24)
    cfa = CFA.named("bayer", phase)
    restored = Menon(cfa)(cfa.pack(cfa.mosaic(picture)))
    torch.testing.assert_close(cfa.mosaic(restored), cfa.mosaic(picture))


def test_menon_is_for_single_pixels_and_needs_its_library(monkeypatch):
    with pytest.raises(ShapeError, match=r"not for CFA\(quad-grbg\); Remosaic makes one"):
        Menon("quad")
    monkeypatch.setitem(sys.modules, "colour_demosaicing", None)
    with pytest.raises(DataError, match="needs the library colour-demosaicing: pip install"):
        Menon("bayer")


def test_bins_can_be_demosaicked_by_menon():
    picture = flat(48, 24)
    torch.testing.assert_close(BinBicubic("quad", bayer="menon")(sense("quad", picture)), picture, atol=1e-5, rtol=0)
    assert isinstance(BinBicubic("bayer").demosaic, Malvar)
    with pytest.raises(RecipeError, match="no Bayer method 'menonn'; did you mean 'menon'"):
        BinBicubic("quad", bayer="menonn")


@pytest.mark.parametrize("cfa", BLOCKS)
@pytest.mark.parametrize("name", UNFITTED)
def test_every_method_makes_a_picture_of_every_array(name, cfa):
    method = UNFITTED[name](CFA.of(cfa))
    for part in method.modules():
        if isinstance(part, LMMSEPhase):
            part.samples = 500
            part.fit([torch.rand(3, 40, 40)])
    assert method(sense(cfa, flat(24, 24))).shape == (1, 3, 24, 24)
    assert name in METHODS
