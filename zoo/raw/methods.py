"""The demosaicing methods that need no weights, by the name that `--method` takes."""

from collections.abc import Callable

from torch import nn

from zoo.raw.baselines import NormalisedConvolution
from zoo.raw.cfa import CFA
from zoo.raw.dataset import PhotographCrops
from zoo.raw.lmmse import LMMSEPhase


def lmmse(cfa: CFA) -> LMMSEPhase:
    """LMMSE-phase for any array, fitted to the bundled training photographs: some seconds."""
    module = LMMSEPhase(cfa)
    module.fit_to(PhotographCrops("bundled:train", size=cfa.period, cfa=cfa))
    return module


METHODS: dict[str, Callable[[CFA], nn.Module]] = {
    "nc": NormalisedConvolution,
    "lmmse": lmmse,
}
"""From an array to a module from its packed mosaics to pictures, both display-encoded."""
