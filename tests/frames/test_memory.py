import pytest
import torch

from zoo.frames.memory import SCRATCH, UNKNOWN, bytes_per_pixel
from zoo.raw import CFA, BinBicubic


class Chain(torch.nn.Module):
    """A module with a peak that can be counted by hand."""

    def forward(self, packed):
        doubled = packed * 2
        tripled = doubled + packed
        del doubled
        return torch.nn.functional.pixel_shuffle(tripled[:, :4].repeat(1, 3, 1, 1), 2)


def test_a_pixel_takes_the_bytes_of_the_tensors_that_live_at_once():
    # 4 planes are 4 bytes a pixel: first two of them (doubled, tripled), then tripled, repeated, shuffled: 1 + 3 + 3
    assert bytes_per_pixel(Chain(), CFA.of("bayer")) == pytest.approx(SCRATCH * 7 * 4)


def test_a_module_that_needs_values_takes_an_unknown_number_of_bytes():
    assert bytes_per_pixel(BinBicubic("bayer", bayer="menon"), CFA.of("bayer")) == UNKNOWN
