"""Every test starts from the same random state and on one thread, so that neither order nor machine matters."""

import jaxtyping
import numpy as np
import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def unchecked_shapes(monkeypatch):
    """Switch off the shape checks that tests add: they would turn up in a trace, and precede the code's own checks."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture
def paint():
    """A function that paints a photograph."""
    return _paint


def _paint(height, width, seed=0):
    """Return smooth colours, edges and fine texture, uint8 (height, width, 3)."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    phase = generator.uniform(0, 6, (3, 1, 1))
    waves = np.sin(x / 9 + phase) + np.cos(y / 13 - phase) + 0.5 * np.sign(np.sin((x + 2 * y) / 17))
    picture = 0.5 + 0.15 * waves + generator.normal(0, 0.03, (1, height, width))
    return (picture.clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
