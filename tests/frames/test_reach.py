import pytest
import torch

from zoo.frames.reach import reach
from zoo.pynet import PyNETQxQ
from zoo.raw import CFA


class Undecided(torch.nn.Module):
    """A module that sees three pixels to the right only in a comparison, which loses NaN."""

    def forward(self, packed):
        mosaic = CFA.of("bayer").unpack(packed)
        return torch.where(mosaic.roll(-3, -1) > 0.5, 1.0, 0.0).repeat(1, 3, 1, 1)


def test_pixels_that_are_only_compared_are_seen_too():
    assert reach(Undecided(), CFA.of("bayer")) == 4


def test_the_released_network_sees_115_pixels_and_a_skip_adds_to_them(network):
    cfa = CFA.of("qxq")
    assert reach(network(corrects=False), cfa) == 120  # 115, in whole tiles of 8
    # the skip's 3, twice the mean's 8 and the steering's, then 3 for its second use
    assert 120 + 8 < reach(network(corrects=True), cfa) <= 160


def test_instance_norm_sees_the_whole_frame():
    assert reach(PyNETQxQ(1).eval(), CFA.of("qxq"), farthest=256) is None


@pytest.mark.parametrize("radius", [1, 4, 7])
def test_a_linear_filter_sees_its_radius(radius, linear):
    assert reach(linear("bayer", radius), CFA.of("bayer")) == -(-radius // 2) * 2
