import pytest
import torch

from zoo.raw import CFA, Remosaic
from zoo.raw.sensor.cfa import PHASES


def test_a_picture_of_one_colour_is_restored(array, sense, one_colour):
    picture = one_colour(24, 48)
    torch.testing.assert_close(Remosaic(array)(sense(array, picture)), picture, atol=1e-4, rtol=0)


@pytest.mark.parametrize("phase", PHASES)
def test_pixels_that_both_arrays_sense_are_kept(phase, sense):
    picture, cfa, bayer = torch.rand(1, 3, 16, 24), CFA.named("qxq", phase), CFA.named("bayer", phase)
    mosaic = Remosaic(cfa, bayer="malvar").remosaic(sense(cfa, picture))
    same = (cfa.masks(16, 24) & bayer.masks(16, 24)).any(0)
    assert torch.equal(mosaic[0, 0][same], bayer.mosaic(picture)[0, 0][same])
    assert 0 < same.float().mean() < 1


def test_the_other_pixels_come_from_another_method():
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
