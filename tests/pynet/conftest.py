"""A skip that is quick to fit: the best linear filters for a picture of noise."""

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
