"""Packed mosaics of pictures, and all arrays with a name."""

import pytest
import torch

from zoo.raw import CFA
from zoo.raw.sensor.cfa import BLOCKS, PHASES


@pytest.fixture(params=[f"{name}-{phase}" for name in BLOCKS for phase in PHASES])
def array(request):
    """Each array with a name, in each phase."""
    return request.param


@pytest.fixture
def sense():
    """A function from an array and pictures to packed mosaics."""
    return lambda cfa, picture: CFA.of(cfa).pack(CFA.of(cfa).mosaic(picture))


@pytest.fixture
def one_colour():
    """A function that makes a picture of one colour."""
    return lambda height, width: torch.tensor([0.2, 0.6, 0.9])[None, :, None, None].expand(1, 3, height, width)
