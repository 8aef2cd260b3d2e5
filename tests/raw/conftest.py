"""Small photographs, made up but colourful and of different sizes."""

import jaxtyping
import numpy as np
import pytest
import tifffile
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


def _dng(path, values, pattern, *, neutral=(0.5, 1.0, 0.625), orientation=1):
    """A minimal DNG with its array written row by row in the letters R, G, B."""

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


@pytest.fixture
def dng():
    return _dng
