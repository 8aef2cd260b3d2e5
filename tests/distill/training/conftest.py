"""A small student of vectors, its batches, and an evaluation with known values, for the tests of this folder."""

import pytest
import torch
from torch import nn


@pytest.fixture
def vector_student():
    """A student from vectors to vectors, with a norm."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


@pytest.fixture
def vector_batches():
    """Two batches of vectors and of their targets."""
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(8, 3, generator=generator), torch.randn(8, 2, generator=generator)) for _ in range(2)]


@pytest.fixture
def psnr_sequence():
    """A function that returns an evaluation whose calls return the values of a list as "psnr", one after the other."""

    def evaluation(values):
        left = list(values)
        return lambda _student: {"psnr": left.pop(0)}

    return evaluation
