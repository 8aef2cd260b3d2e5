"""Small photographs, made up but colourful and of different sizes."""

import jaxtyping
import numpy as np
import pytest
from PIL import Image


def _paint(height, width, seed=0):
    """Smooth colours, edges and fine texture, uint8 (height, width, 3)."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    phase = generator.uniform(0, 6, (3, 1, 1))
    waves = np.sin(x / 9 + phase) + np.cos(y / 13 - phase) + 0.5 * np.sign(np.sin((x + 2 * y) / 17))
    picture = 0.5 + 0.15 * waves + generator.normal(0, 0.03, (1, height, width))
    return (picture.clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)


@pytest.fixture
def paint():
    return _paint


@pytest.fixture
def folder(tmp_path):
    """A folder of three photographs: a.png 96x120, b.png 128x128, c.png 104x150 (height x width)."""
    for seed, (name, size) in enumerate({"a": (96, 120), "b": (128, 128), "c": (104, 150)}.items()):
        Image.fromarray(_paint(*size, seed)).save(tmp_path / f"{name}.png")
    return tmp_path


@pytest.fixture
def unchecked_shapes(monkeypatch):
    """Without the shape checks that tests add: they would turn up in a trace."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
