"""Small models, batches and optimizers for the tests of this folder."""

import pytest
import torch
from torch import nn

from compresskit import ProgressiveDistiller, Stage


def _build(width, seed, depth=2):
    torch.manual_seed(seed)
    blocks = [nn.Sequential(nn.Conv2d(3 if k == 0 else width, width, 3, padding=1), nn.Tanh()) for k in range(depth)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5))


@pytest.fixture
def net():
    """A function (width, seed) that builds a small classifier of images with two blocks."""
    return _build


@pytest.fixture
def sgd():
    """A plain optimizer, so that a step can be computed by hand."""
    return {"_target_": "torch.optim.SGD", "lr": 0.1}


@pytest.fixture
def batches():
    """Three batches of images and labels for `net`."""
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(6, 3, 8, 8, generator=generator), torch.randint(0, 5, (6,), generator=generator)) for _ in range(3)
    ]


@pytest.fixture
def state():
    """A function that copies a model's state."""
    return lambda model: {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.fixture
def changed():
    """A function (earlier state, model) that returns the names of the tensors that have changed."""
    return lambda before, model: {
        name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])
    }


@pytest.fixture
def losses(sgd):
    """A function that trains for three steps on one batch and returns the sum of the terms at each step."""

    def fit(teacher, student, *matches, inputs):
        stage = Stage("s", matches=matches, steps=3, optimizer=sgd)
        history = ProgressiveDistiller(teacher, student, [stage]).fit([inputs]).history
        return [sum(term["value"] for term in record["terms"].values()) for record in history]

    return fit
