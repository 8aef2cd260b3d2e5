"""Sizes of pictures that a model takes."""

import pytest
import torch
from torch import nn

from compresskit import profile
from compresskit.errors import CompressKitError, DataError
from compresskit.profiling.counting.model_call import ModelCall
from compresskit.profiling.counting.sizes import next_valid_size, resize_to_megapixels


class Ladder(nn.Module):
    """Module that halves its picture twice and restores its size: sides must be multiples of four."""

    def __init__(self):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 3, 3, 2, 1), nn.Conv2d(3, 3, 3, 2, 1))
        self.up = nn.Upsample(scale_factor=4)

    def forward(self, x):
        return torch.cat([self.up(self.down(x)), x], dim=1)


def test_a_wrong_size_names_the_module_the_sizes_and_the_next_valid_size():
    with pytest.raises(
        CompressKitError, match=r"^input 18x21 fails at `1`: sizes 20 and 18; try a multiple of 4 \(20x24\)$"
    ):
        profile(nn.Sequential(nn.Identity(), Ladder()), torch.rand(1, 3, 18, 21))
    assert next_valid_size(Ladder(), ModelCall.of(torch.rand(1, 3, 18, 21))).multiple == 4


def test_megapixels_are_those_of_the_larger_picture_rounded_up_to_what_fits():
    doubling = nn.Sequential(Ladder(), nn.Upsample(scale_factor=2))
    call = resize_to_megapixels([doubling], ModelCall.of(torch.rand(1, 3, 16, 16)), 12)
    assert call.picture_size() == (1500, 2000)  # the output has 3000 x 4000
    call = resize_to_megapixels([Ladder(), nn.Conv2d(3, 3, 1)], ModelCall.of(torch.rand(1, 3, 16, 16)), 1)
    assert call.picture_size() == (868, 1156)  # 866 x 1155, and multiples of four
    with pytest.raises(DataError, match="--megapixels needs an input with height and width"):
        resize_to_megapixels([nn.Linear(2, 2)], ModelCall.of(torch.rand(2)), 1)
