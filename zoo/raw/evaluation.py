"""Demosaicing measured on whole photographs, baselines beside networks."""

import math
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from compresskit.errors import RecipeError
from zoo.evaluating import evaluating
from zoo.raw.baselines import BinBicubic, NormalisedConvolution
from zoo.raw.dataset import PhotographFrames
from zoo.raw.lmmse import LMMSEPhase
from zoo.raw.metrics import MS_SSIM_SIDE, ms_ssim, psnr, ssim


class DemosaicEvaluation:
    """PSNR, SSIM and MS-SSIM of a demosaicing model, per photograph and on average; see `zoo.raw.metrics`.

    A model is any module from packed mosaics (1, 4, h/2, w/2) to pictures (1, 3, h, w). It runs where its parameters
    are, in eval mode and without gradients, and is given back in the mode it came in.

    Args:
        dataset: The photographs, with the CFA that sees them.
        border: Pixels left out on each side.
        multiple: Mosaics are continued at the right and the bottom to multiples of this many pixels (and of the CFA's
            period), and pictures cut back. PyNET's five scales need 32.
        illustrations: Most photographs to draw.

    Raises:
        RecipeError: An option has an impossible value, or a photograph is too small for the border.
    """

    units: ClassVar[Mapping[str, str]] = {"psnr": "dB"}

    def __init__(
        self, dataset: PhotographFrames, *, border: int = 16, multiple: int = 32, illustrations: int = 4
    ) -> None:
        if border < 0 or multiple < 1 or illustrations < 0:
            raise RecipeError("border and illustrations must be at least 0, and multiple at least 1")
        smallest = min(map(min, dataset.sizes)) - 2 * border
        if smallest < 11:
            raise RecipeError(f"border {border} leaves too little of the smallest photograph; make it smaller")
        self.dataset = dataset
        self.border = border
        self.multiple = math.lcm(multiple, dataset.cfa.period)
        self.illustrations = illustrations
        self.metrics = {"psnr": psnr, "ssim": ssim}
        if smallest >= MS_SSIM_SIDE:
            self.metrics["ms_ssim"] = ms_ssim
        self.baselines: dict[str, nn.Module] = {
            "bin + bicubic": BinBicubic(dataset.cfa),
            "normalised convolution": NormalisedConvolution(dataset.cfa),
            "LMMSE-phase": LMMSEPhase(dataset.cfa),
        }
        """What to compare with, by name. LMMSE-phase is to be shown training photographs first: `fit_to`."""

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Each metric's mean over the photographs."""
        return {name: fmean(values) for name, values in self.per_sample(model).items()}

    def per_sample(self, model: nn.Module) -> dict[str, list[float]]:
        """Each metric of each photograph, in the dataset's order. MS-SSIM is left out if one is too small for it."""
        figures: dict[str, list[float]] = {name: [] for name in self.metrics}
        for index in range(len(self.dataset)):
            packed, truth = self.dataset[index]
            picture = self.demosaic(model, packed)
            for name, metric in self.metrics.items():
                figures[name].append(float(metric(picture[None], truth[None], border=self.border)))
        return figures

    def demosaic(self, model: nn.Module, packed: Float[Tensor, "4 h2 w2"]) -> Float[Tensor, "3 h w"]:
        """The model's picture of one packed mosaic, on the CPU in float32."""
        cfa = self.dataset.cfa
        mosaic = cfa.unpack(packed[None])
        height, width = mosaic.shape[2:]
        extended = cfa.pack(cfa.extend(mosaic, (0, -width % self.multiple, 0, -height % self.multiple)))
        place = next((tensor for tensor in (*model.parameters(), *model.buffers())), extended)
        with evaluating(model), torch.no_grad():
            picture = model(extended.to(place.device))
        return picture[0, :, :height, :width].float().cpu()

    def illustrate(self, models: Mapping[str, nn.Module], folder: Path) -> None:
        """One PNG a photograph, its models side by side where they differ most; see `zoo.raw.pictures.compare`."""
        from zoo.raw.pictures import Panel, compare

        folder.mkdir(parents=True, exist_ok=True)
        for index in range(min(self.illustrations, len(self.dataset))):
            packed, truth = self.dataset[index]
            panels = []
            for name, model in models.items():
                picture = self.demosaic(model, packed).clamp(0, 1)
                panels.append(Panel(name, picture, float(psnr(picture[None], truth[None], border=self.border))))
            mosaic = self.dataset.cfa.separate(self.dataset.cfa.unpack(packed[None]))[0]
            image = compare(self.dataset.names[index], truth, mosaic, panels, border=self.border)
            image.save(folder / f"{self.dataset.names[index].replace('/', '_')}.png")
