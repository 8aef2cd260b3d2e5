import sys

import pytest
import torch

from compresskit.errors import DataError, ShapeError
from zoo.raw import CFA, Menon
from zoo.raw.sensor.cfa import PHASES


@pytest.mark.parametrize("phase", PHASES)
def test_menon_respects_the_phase(phase):
    picture = torch.rand(2, 3, 16, 24)
    cfa = CFA.named("bayer", phase)
    restored = Menon(cfa)(cfa.pack(cfa.mosaic(picture)))
    torch.testing.assert_close(cfa.mosaic(restored), cfa.mosaic(picture))


def test_menon_is_for_single_pixels_and_needs_its_library(monkeypatch):
    with pytest.raises(ShapeError, match=r"not for CFA\(quad-grbg\); Remosaic makes one"):
        Menon("quad")
    monkeypatch.setitem(sys.modules, "colour_demosaicing", None)
    with pytest.raises(DataError, match="needs the library colour-demosaicing: pip install"):
        Menon("bayer")
