"""FLOPs outside of matrix products, and bytes."""

import pytest
import torch
from torch import nn

from compresskit import profile

FLOAT = 4


@pytest.mark.parametrize(
    ("model", "shape", "flops"),
    [
        (nn.ReLU(), (2, 3), 6),
        (nn.Sequential(nn.Flatten(), nn.Identity()), (2, 3), 0),
        (nn.Softmax(1), (2, 3), 5 * 6),
        (nn.BatchNorm2d(3), (1, 3, 4, 4), 2 * 48),
        (nn.InstanceNorm2d(3), (1, 3, 4, 4), 6 * 48),
        (nn.LayerNorm(4), (1, 3, 4, 4), 6 * 48),
        (nn.AvgPool2d(2), (1, 3, 4, 4), 3 * 2 * 2 * 4),
        (nn.MaxPool2d((2, 4)), (1, 3, 4, 4), 3 * 2 * 1 * 8),
        (nn.Upsample(scale_factor=2, mode="bilinear"), (1, 1, 4, 4), 7 * 64),
        (nn.Upsample(scale_factor=2, mode="bicubic"), (1, 1, 4, 4), 31 * 64),
    ],
)
def test_element_wise_flops_by_the_table(model, shape, flops):
    report = profile(model, torch.rand(shape))
    assert (report.elementwise, report.flops, report.uncounted) == (flops, flops, {})


def test_flops_are_two_per_mac_plus_the_element_wise_ones():
    report = profile(nn.Sequential(nn.Linear(4, 5), nn.ReLU()), torch.rand(2, 4))
    assert (report.macs, report.elementwise, report.flops) == (40, 10, 90)
    linear = 4 * 5 + 5 + 2 * 4 + 2 * 5  # weight, bias, input, output
    assert report.bytes == FLOAT * (linear + 2 * 10)
    assert report.intensity == pytest.approx(90 / report.bytes)
