import pytest
import torch

from compresskit.errors import CompressKitError
from zoo.frames.memory import UNKNOWN, bytes_per_pixel, peak_bytes
from zoo.raw import CFA, BinBicubic


def test_peak_bytes_counts_the_tensors_that_live_at_once():
    class Chain(torch.nn.Module):
        def forward(self, packed):
            doubled = packed * 2
            tripled = doubled + packed
            del doubled
            return torch.nn.functional.pixel_shuffle(tripled[:, :4].repeat(1, 3, 1, 1), 2)

    # 4 planes of 8x8 floats make 1024 bytes: then three (doubled, tripled), then tripled, repeated, shuffled: 1 + 3 + 3
    assert peak_bytes(Chain(), 16, 16) == 7 * 1024


def test_a_module_that_needs_values_has_an_unknown_peak():
    in_numpy = BinBicubic("bayer", bayer="menon")
    with pytest.raises(CompressKitError):
        peak_bytes(in_numpy, 32, 32)
    assert bytes_per_pixel(in_numpy, CFA.of("bayer")) == UNKNOWN
