"""A skip that is quick to make: the best linear filters for a picture of noise."""

import jaxtyping
import pytest
import torch

from zoo.raw import LMMSEPhase


@pytest.fixture
def skip():
    linear = LMMSEPhase(radius=3, samples=2048)
    smooth = torch.nn.functional.avg_pool2d(
        torch.rand(1, 3, 100, 100, generator=torch.Generator().manual_seed(1)), 5, 1
    )
    linear.fit([smooth[0]])
    return linear


@pytest.fixture
def unchecked_shapes(monkeypatch):
    """Without the shape checks that tests add: they would turn up in a trace, and answer before our own do."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
