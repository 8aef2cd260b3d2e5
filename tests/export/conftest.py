"""Photographs of noise and waves, and models without shape checks."""

import jaxtyping
import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def folder(tmp_path):
    """Three photographs of 96x120 pixels."""
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for seed in range(3):
        noise = np.random.default_rng(seed).integers(0, 256, (96, 120, 3), dtype=np.uint8)
        Image.fromarray(noise).save(photographs / f"{seed}.png")
    return photographs


@pytest.fixture
def unchecked_shapes(monkeypatch):
    """Remove the shape checks that tests add, because they would be traced."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
