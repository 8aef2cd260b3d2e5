"""A folder of small photographs, made up but colourful and of different sizes."""

import pytest
from PIL import Image


@pytest.fixture
def folder(tmp_path, paint):
    """Three photographs: a.png 96x120, b.png 128x128, c.png 104x150 (height x width)."""
    for seed, (name, size) in enumerate({"a": (96, 120), "b": (128, 128), "c": (104, 150)}.items()):
        Image.fromarray(paint(*size, seed)).save(tmp_path / f"{name}.png")
    return tmp_path
