"""The demosaicing methods that are no networks, by the name that a command line takes."""

from collections.abc import Callable

from torch import nn

from zoo.raw.methods.baselines import BinBicubic, NormalisedConvolution
from zoo.raw.methods.lmmse import LMMSEPhase
from zoo.raw.methods.remosaic import Remosaic
from zoo.raw.methods.steered import SteeredKernelRegression
from zoo.raw.photographs.dataset import PhotographCrops
from zoo.raw.sensor.cfa import CFA


def lmmse(cfa: CFA) -> LMMSEPhase:
    """LMMSE-phase for any array, fitted to the bundled training photographs: some seconds."""
    module = LMMSEPhase(cfa)
    module.fit_to(PhotographCrops("bundled:train", size=cfa.period, cfa=cfa))
    return module


METHODS: dict[str, Callable[[CFA], nn.Module]] = {
    "bin": BinBicubic,
    "bin+menon": lambda cfa: BinBicubic(cfa, bayer="menon"),
    "nc": NormalisedConvolution,
    "nc-plain": lambda cfa: NormalisedConvolution(cfa, differences=False),
    "skr": SteeredKernelRegression,
    "lmmse": lmmse,
    "remosaic+malvar": lambda cfa: Remosaic(cfa, bayer="malvar"),
    "remosaic+menon": Remosaic,
    "nc+menon": lambda cfa: Remosaic(cfa, first=NormalisedConvolution(cfa)),
    "nc-plain+menon": lambda cfa: Remosaic(cfa, first=NormalisedConvolution(cfa, differences=False)),
    "lmmse+menon": lambda cfa: Remosaic(cfa, first=lmmse(cfa)),
}
"""From an array to a module from its packed mosaics to pictures, both display-encoded."""


UNFITTED: dict[str, Callable[[CFA], nn.Module]] = {
    **METHODS,
    "lmmse": LMMSEPhase,
    "lmmse+menon": lambda cfa: Remosaic(cfa, first=LMMSEPhase(cfa)),
}
"""The same, but what learns in closed form has yet to be shown photographs by `fit_to`."""
