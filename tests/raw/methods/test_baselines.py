import pytest
import torch

from compresskit.errors import RecipeError, ShapeError
from zoo.raw import CFA, BinBicubic, Malvar, NormalisedConvolution
from zoo.raw.sensor.cfa import PHASES


@pytest.mark.parametrize("method", [NormalisedConvolution, BinBicubic])
def test_a_picture_of_one_colour_is_restored(method, array, sense, one_colour):
    picture = one_colour(48, 24).expand(2, -1, -1, -1)
    torch.testing.assert_close(method(array)(sense(array, picture)), picture, atol=1e-5, rtol=0)


@pytest.mark.parametrize("phase", PHASES)
def test_malvar_restores_a_picture_of_one_colour(phase, sense, one_colour):
    picture, array = one_colour(48, 24).expand(2, -1, -1, -1), f"bayer-{phase}"
    torch.testing.assert_close(Malvar(array)(sense(array, picture)), picture, atol=1e-5, rtol=0)


def test_normalised_convolution_keeps_sensed_values(array, sense):
    picture = torch.rand(1, 3, 24, 48)
    restored = NormalisedConvolution(array)(sense(array, picture))
    assert torch.equal(CFA.of(array).mosaic(restored), CFA.of(array).mosaic(picture))


@pytest.mark.parametrize("phase", PHASES)
def test_malvar_restores_a_ramp(phase, sense):
    ramp = (torch.arange(16.0)[:, None] + 2 * torch.arange(20.0)).expand(1, 3, 16, 20)
    restored = Malvar(f"bayer-{phase}")(sense(f"bayer-{phase}", ramp))
    inside = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(restored[inside], ramp[inside])


@pytest.mark.parametrize("phase", PHASES)
def test_malvar_corrects_by_the_second_difference_of_the_sensed_colour(phase, sense):
    picture = torch.zeros(1, 3, 10, 10)
    picture[:, :, 4:6, 4:6] = 8.0  # one tile: each of its pixels has another filter
    restored = Malvar(f"bayer-{phase}")(sense(f"bayer-{phase}", picture))[0]
    row, column = divmod(phase.index("r"), 2)
    assert float(restored[0, 4 + row, 4 + column]) == 8.0
    # green at red: half of it red's own (4/8 of 8), and a quarter of each of its two bright green neighbours
    assert float(restored[1, 4 + row, 4 + column]) == 4.0 + 2 * 2.0


def test_bins_are_the_means_of_blocks(sense):
    picture = torch.rand(1, 3, 32, 32)
    small = CFA.of("bayer").mosaic(torch.nn.functional.avg_pool2d(picture, 4))
    blocks = CFA.of("qxq").mosaic(picture).unfold(2, 4, 4).unfold(3, 4, 4).mean((-1, -2))
    assert small.shape == blocks.shape
    seen = Malvar()(CFA.of("bayer").pack(blocks))
    expected = torch.nn.functional.interpolate(seen, scale_factor=4, mode="bicubic", align_corners=False)
    torch.testing.assert_close(BinBicubic("qxq")(sense("qxq", picture)), expected)


def test_red_that_follows_green_is_restored_better_than_red_alone(sense):
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


def test_without_differences_each_colour_is_interpolated_by_itself(sense):
    picture = torch.rand(1, 3, 48, 48)
    other = picture * torch.tensor([1.0, 0.3, 1.0])[None, :, None, None]
    one, two = (NormalisedConvolution("quad", differences=False)(sense("quad", p)) for p in (picture, other))
    torch.testing.assert_close(one[:, ::2], two[:, ::2])
    assert not torch.allclose(one[:, 1], two[:, 1])


def test_bins_can_be_demosaicked_by_menon(sense, one_colour):
    picture = one_colour(48, 24)
    torch.testing.assert_close(BinBicubic("quad", bayer="menon")(sense("quad", picture)), picture, atol=1e-5, rtol=0)
    assert isinstance(BinBicubic("bayer").demosaic, Malvar)
    with pytest.raises(RecipeError, match="no Bayer method 'menonn'; did you mean 'menon'"):
        BinBicubic("quad", bayer="menonn")
