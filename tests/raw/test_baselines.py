import pytest
import torch

from compresskit.errors import ShapeError
from zoo.raw import CFA, BinBicubic, Malvar, NormalisedConvolution
from zoo.raw.sensor.cfa import BLOCKS, PHASES

ARRAYS = [f"{name}-{phase}" for name in BLOCKS for phase in PHASES]
METHODS = [(method, array) for array in ARRAYS for method in (NormalisedConvolution, BinBicubic)]
METHODS += [(Malvar, f"bayer-{phase}") for phase in PHASES]


def sense(cfa, picture):
    return CFA.of(cfa).pack(CFA.of(cfa).mosaic(picture))


@pytest.mark.parametrize(("method", "cfa"), METHODS)
def test_a_picture_of_one_colour_is_restored(method, cfa):
    picture = torch.tensor([0.2, 0.6, 0.9])[None, :, None, None].expand(2, 3, 48, 24)
    torch.testing.assert_close(method(cfa)(sense(cfa, picture)), picture, atol=1e-5, rtol=0)


@pytest.mark.parametrize("cfa", ARRAYS)
def test_normalised_convolution_keeps_what_was_sensed(cfa):
    picture = torch.rand(1, 3, 24, 48)
    restored = NormalisedConvolution(cfa)(sense(cfa, picture))
    assert torch.equal(CFA.of(cfa).mosaic(restored), CFA.of(cfa).mosaic(picture))


@pytest.mark.parametrize("phase", PHASES)
def test_malvar_restores_a_ramp(phase):
    ramp = (torch.arange(16.0)[:, None] + 2 * torch.arange(20.0)).expand(1, 3, 16, 20)
    restored = Malvar(f"bayer-{phase}")(sense(f"bayer-{phase}", ramp))
    inside = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(restored[inside], ramp[inside])


@pytest.mark.parametrize("phase", PHASES)
def test_malvar_corrects_by_the_second_difference_of_what_was_sensed(phase):
    picture = torch.zeros(1, 3, 10, 10)
    picture[:, :, 4:6, 4:6] = 8.0  # one tile: each of its pixels has another filter
    restored = Malvar(f"bayer-{phase}")(sense(f"bayer-{phase}", picture))[0]
    row, column = divmod(phase.index("r"), 2)
    assert float(restored[0, 4 + row, 4 + column]) == 8.0
    # green at red: half of it red's own (4/8 of 8), and a quarter of each of its two bright green neighbours
    assert float(restored[1, 4 + row, 4 + column]) == 4.0 + 2 * 2.0


def test_bins_are_the_means_of_blocks():
    picture = torch.rand(1, 3, 32, 32)
    small = CFA.of("bayer").mosaic(torch.nn.functional.avg_pool2d(picture, 4))
    blocks = CFA.of("qxq").mosaic(picture).unfold(2, 4, 4).unfold(3, 4, 4).mean((-1, -2))
    assert small.shape == blocks.shape
    seen = Malvar()(CFA.of("bayer").pack(blocks))
    expected = torch.nn.functional.interpolate(seen, scale_factor=4, mode="bicubic", align_corners=False)
    torch.testing.assert_close(BinBicubic("qxq")(sense("qxq", picture)), expected)


def test_red_that_follows_green_is_found_better_than_red_alone():
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    grey = (0.5 + 0.3 * torch.sin(x / 2 + y / 3)).expand(1, 3, 96, 96)
    alone = grey * torch.tensor([1.0, 0.0, 0.0])[None, :, None, None]
    errors = [
        (NormalisedConvolution()(sense("qxq", picture)) - picture)[:, 0].square().mean() for picture in (grey, alone)
    ]
    assert float(errors[0]) < 0.7 * float(errors[1])


def test_malvar_is_for_single_pixels():
    with pytest.raises(ShapeError, match=r"not for CFA\(qxq-grbg\); BinBicubic bins"):
        Malvar("qxq")
