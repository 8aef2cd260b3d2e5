import pytest
import torch

from zoo.raw import CFA, NormalisedConvolution, PhotographFrames, SteeredKernelRegression
from zoo.raw.methods.steered import _Kernels
from zoo.raw.sensor.cfa import BLOCKS


def test_a_picture_of_one_colour_is_restored(array, sense, one_colour):
    picture = one_colour(24, 48)
    torch.testing.assert_close(SteeredKernelRegression(array)(sense(array, picture)), picture, atol=1e-4, rtol=0)


def test_sensed_values_are_kept(array, sense):
    picture = torch.rand(1, 3, 24, 48)
    restored = SteeredKernelRegression(array)(sense(array, picture))
    assert torch.equal(CFA.of(array).mosaic(restored), CFA.of(array).mosaic(picture))


@pytest.mark.parametrize("cfa", BLOCKS)
def test_a_mosaic_of_one_tile_is_enough(cfa, sense):
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


def test_steered_kernels_are_far_better_than_round_ones_on_a_slanted_edge(sense):
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
        pictures = [m("qxq")(part[None])[0] for m in (NormalisedConvolution, SteeredKernelRegression)]
        errors = [(one - truth)[:, 16:-16, 16:-16].square().mean() for one in pictures]
        assert errors[1] < 0.7 * errors[0]
