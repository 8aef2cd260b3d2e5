"""The demosaicing methods that are no networks, by their names on the command line."""

from collections.abc import Callable

from torch import nn

from zoo.raw.methods.baselines import BinBicubic, NormalisedConvolution
from zoo.raw.methods.lmmse import LMMSEPhase
from zoo.raw.methods.remosaic import Remosaic
from zoo.raw.methods.steered import SteeredKernelRegression
from zoo.raw.photographs.dataset import PhotographCrops
from zoo.raw.sensor.cfa import CFA


def lmmse(cfa: CFA) -> LMMSEPhase:
    """Fit LMMSE-phase for an array to the bundled training photographs, which takes some seconds."""
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
"""Functions from an array to a module from its packed mosaics to pictures, both display-encoded."""


UNFITTED: dict[str, Callable[[CFA], nn.Module]] = {
    **METHODS,
    "lmmse": LMMSEPhase,
    "lmmse+menon": lambda cfa: Remosaic(cfa, first=LMMSEPhase(cfa)),
}
"""The same, with LMMSE-phase before its fit: `fit_to` shows it photographs."""
