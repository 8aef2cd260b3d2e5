"""Small models and batches for the tests of this folder."""

import pytest
import torch
from torch import nn


def _build(width, seed, depth=2):
    torch.manual_seed(seed)
    blocks = [nn.Sequential(nn.Conv2d(3 if k == 0 else width, width, 3, padding=1), nn.Tanh()) for k in range(depth)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5))


@pytest.fixture
def net():
    """A function (width, seed) that builds a small classifier of images with two blocks."""
    return _build


@pytest.fixture
def batches():
    """Three batches of images and labels for `net`."""
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(6, 3, 8, 8, generator=generator), torch.randint(0, 5, (6,), generator=generator)) for _ in range(3)
    ]
