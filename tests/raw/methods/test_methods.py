import pytest
import torch

from zoo.raw import CFA, LMMSEPhase
from zoo.raw.methods.methods import METHODS, UNFITTED
from zoo.raw.sensor.cfa import BLOCKS


@pytest.mark.parametrize("cfa", BLOCKS)
@pytest.mark.parametrize("name", UNFITTED)
def test_every_method_demosaics_every_array(name, cfa, sense, one_colour):
    method = UNFITTED[name](CFA.of(cfa))
    for part in method.modules():
        if isinstance(part, LMMSEPhase):
            part.samples = 500
            part.fit([torch.rand(3, 40, 40)])
    assert method(sense(cfa, one_colour(24, 24))).shape == (1, 3, 24, 24)
    assert name in METHODS
