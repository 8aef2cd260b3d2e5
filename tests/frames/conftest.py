"""DNG files, and modules whose result on a whole frame is known."""

import numpy as np
import pytest
import tifffile
import torch

from zoo.pynet import PyNETQxQ
from zoo.raw import LMMSEPhase


@pytest.fixture
def linear():
    """A function that builds a linear filter for an array."""
    return _linear


@pytest.fixture
def network():
    """A function that builds a narrow PyNET-QxQ with a trained head."""
    return _network


@pytest.fixture
def dng():
    """A function that writes a DNG."""
    return _dng


def _linear(cfa, radius=3):
    module = LMMSEPhase(cfa, radius=radius)
    generator = torch.Generator().manual_seed(1)
    module.load_state_dict(
        {name: torch.randn(tensor.shape, generator=generator) / 20 for name, tensor in module.state_dict().items()}
    )
    return module


def _network(*, corrects):
    torch.manual_seed(2)
    built = PyNETQxQ(2, instance_norm_level_1=False, skip=_linear("qxq") if corrects else None)
    torch.nn.init.normal_(built.conv_l0_d1.conv2d.weight, std=0.1)
    return built.eval()


def _dng(path, values, pattern, *, neutral=(0.5, 1.0, 0.625), orientation=1):
    """Write a minimal DNG whose array is stated row by row in the letters R, G and B."""

    def rationals(numbers):
        return tuple(part for number in numbers for part in (round(number * 10000), 10000))

    side = len(pattern)
    colours = bytes("RGB".index(letter) for row in pattern for letter in row)
    tags = [
        (50706, "B", 4, (1, 4, 0, 0), True),  # DNG version
        (50708, "s", 0, "Unit Test", True),
        (33421, "H", 2, (side, side), True),
        (33422, "B", side * side, colours, True),
        (50714, "H", 1, (64,), True),  # black
        (50717, "H", 1, (1023,), True),  # white
        (50721, "2i", 9, rationals(np.eye(3).flatten()), True),
        (50728, "2I", 3, rationals(neutral), True),
        (274, "H", 1, (orientation,), True),
    ]
    tifffile.imwrite(path, values, photometric=32803, extratags=tags, metadata=None, software=False)
    return path
