"""Demosaicing measured on whole photographs, baselines beside networks."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from compresskit.errors import RecipeError, ShapeError
from compresskit.nested import device_of
from compresskit.restore import preserve_state
from zoo.raw.methods.baselines import BinBicubic, NormalisedConvolution
from zoo.raw.methods.lmmse import LMMSEPhase
from zoo.raw.methods.methods import UNFITTED
from zoo.raw.photographs.dataset import PhotographFrames
from zoo.raw.scoring.artefacts import false_colour, zipper
from zoo.raw.scoring.metrics import MS_SSIM_SIDE, ms_ssim, psnr, ssim
from zoo.raw.sensor.encoding import convert
from zoo.raw.sensor.sensor import Sensor, usual_read


class DemosaicEvaluation:
    """PSNR, SSIM and MS-SSIM of a demosaicing model, per photograph and on average; see `zoo.raw.scoring.metrics`.

    A model is any module from packed mosaics (1, 4, h/2, w/2) to pictures (1, 3, h, w). It runs where its parameters
    are, in eval mode and without gradients, and is given back in the mode it came in. What is compared and drawn is
    display-encoded, also where mosaics and models are linear.

    Args:
        dataset: The photographs, with the CFA that sees them.
        border: Pixels left out on each side.
        multiple: Mosaics are continued at the right and the bottom to multiples of this many pixels (and of the CFA's
            period), and pictures cut back. PyNET's five scales need 32.
        illustrations: Most photographs to draw.
        noise: Levels of `conditions`, as the variance of shot noise at white.

    Raises:
        RecipeError: An option has an impossible value, or a photograph is too small for the border.
    """

    units: ClassVar[Mapping[str, str]] = {"psnr": "dB", "zipper": "%"}
    lower_is_better: ClassVar[Sequence[str]] = ("zipper", "false_colour")

    def __init__(
        self,
        dataset: PhotographFrames,
        *,
        border: int = 16,
        multiple: int = 32,
        illustrations: int = 4,
        noise: Sequence[float] = (1e-4, 1e-3, 1e-2),
    ) -> None:
        if border < 0 or multiple < 1 or illustrations < 0:
            raise RecipeError("border and illustrations must be at least 0, and multiple at least 1")
        if any(level <= 0 for level in noise):
            raise RecipeError(f"noise levels are variances above 0, got {list(noise)}")
        smallest = min(map(min, dataset.sizes)) - 2 * border
        if smallest < 11:
            raise RecipeError(f"border {border} leaves too little of the smallest photograph; make it smaller")
        self.dataset = dataset
        self.border = border
        self.multiple = math.lcm(multiple, dataset.cfa.period)
        self.illustrations = illustrations
        self.noise = tuple(noise)
        self.metrics = {"psnr": psnr, "ssim": ssim}
        if smallest >= MS_SSIM_SIDE:
            self.metrics["ms_ssim"] = ms_ssim
        self.baselines: dict[str, nn.Module] = {
            "bin + bicubic": BinBicubic(dataset.cfa),
            "normalised convolution": NormalisedConvolution(dataset.cfa),
            "LMMSE-phase": LMMSEPhase(dataset.cfa),
        }
        """What to compare with, by name. LMMSE-phase is to be shown training photographs first: `fit_to`."""
        self.methods: dict[str, Callable[[], nn.Module]] = {
            name: partial(method, dataset.cfa) for name, method in UNFITTED.items()
        }
        """All that can be compared with, by name; made when called, and to be shown photographs like the baselines."""

    def conditions(self) -> dict[str, "DemosaicEvaluation"]:
        """The same photographs without noise and at each level of it, by name, with zipper and false colour too.

        Read noise is what phone cameras usually have beside such shot noise. Whatever else the dataset's sensor does,
        it does in all of them; a dataset without a sensor has exact values where there is no noise.
        """
        sensor = self.dataset.sensor
        quiet = None if sensor is None else replace(sensor, shot=0.0, read=0.0, rows=0.0)
        found = {"noise-free": self._under(quiet)}
        for level in self.noise:
            noisy = replace(sensor or Sensor(), shot=level, read=usual_read(level))
            found[f"shot noise {level:g}"] = self._under(noisy)
        return found

    def _under(self, sensor: Sensor | None) -> "DemosaicEvaluation":
        other = copy.copy(self)
        other.dataset = self.dataset.seen_by(sensor)
        other.metrics = self.metrics | {"zipper": zipper, "false_colour": false_colour}
        return other

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Each metric's mean over the photographs."""
        return {name: fmean(values) for name, values in self.per_sample(model).items()}

    def per_sample(self, model: nn.Module) -> dict[str, list[float]]:
        """Each metric of each photograph, in the dataset's order. MS-SSIM is left out if one is too small for it."""
        figures: dict[str, list[float]] = {name: [] for name in self.metrics}
        for index in range(len(self.dataset)):
            packed, truth = self.dataset[index]
            picture, truth = self._shown(self.demosaic(model, packed)), self._shown(truth)
            for name, metric in self.metrics.items():
                figures[name].append(float(metric(picture[None], truth[None], border=self.border)))
        return figures

    def demosaic(self, model: nn.Module, packed: Float[Tensor, "4 h2 w2"]) -> Float[Tensor, "3 h w"]:
        """The model's picture of one packed mosaic, on the CPU in float32.

        Raises:
            ShapeError: The model is for another array than the photographs are seen by.
        """
        cfa = self.dataset.cfa
        made_for = getattr(model, "cfa", cfa)
        if made_for != cfa:
            raise ShapeError(f"{type(model).__name__} is made for {made_for}, and the data have mosaics of {cfa}")
        mosaic = cfa.unpack(packed[None])
        height, width = mosaic.shape[2:]
        extended = cfa.pack(cfa.extend(mosaic, (0, -width % self.multiple, 0, -height % self.multiple)))
        with preserve_state(model), torch.no_grad():
            model.eval()
            picture = model(extended.to(device_of(model)))
        return picture[0, :, :height, :width].float().cpu()

    def illustrate(self, models: Mapping[str, nn.Module], folder: Path) -> None:
        """One PNG a photograph, its models side by side where they differ most."""
        from zoo.raw.scoring.side_by_side import Panel, draw_side_by_side

        folder.mkdir(parents=True, exist_ok=True)
        for index in range(min(self.illustrations, len(self.dataset))):
            packed, truth = self.dataset[index]
            truth, panels = self._shown(truth), []
            for name, model in models.items():
                picture = self._shown(self.demosaic(model, packed))
                panels.append(Panel(name, picture, float(psnr(picture[None], truth[None], border=self.border))))
            name, sensed = self.dataset.names[index], self._sensed(packed)
            image = draw_side_by_side(name, truth, sensed, panels, border=self.border)
            image.save(folder / f"{name.replace('/', '_')}.png")

    def draw_worst(self, models: Mapping[str, nn.Module], path: Path) -> None:
        """One PNG of the places where the first model is worst, all models beside each other."""
        from zoo.raw.scoring.sheet import SheetRow, Square, draw_sheet, worst_squares

        first = next(iter(models.values()))
        found: list[Square] = []
        for index in range(len(self.dataset)):
            packed, truth = self.dataset[index]
            error = (self._shown(self.demosaic(first, packed)) - self._shown(truth)).square().mean(0)
            found += worst_squares(index, error, border=self.border)
        places = sorted(found, key=lambda place: -place.error)[: self.illustrations]
        made: dict[int, Mapping[str, Tensor]] = {}
        entries = []
        for place in places:
            number = place.photograph
            packed, truth = self.dataset[number]
            if number not in made:
                made[number] = {name: self._shown(self.demosaic(model, packed)) for name, model in models.items()}
            name = self.dataset.names[number]
            entries.append(SheetRow(name, place, self._shown(truth), self._sensed(packed), made[number]))
        if entries:
            draw_sheet(entries).save(path)

    def _shown(self, picture: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 h w"]:
        """A picture as a display has it: encoded, and nothing beyond black and white."""
        return convert(picture.clamp(0, 1), self.dataset.domain, "display")

    def _sensed(self, packed: Float[Tensor, "4 h2 w2"]) -> Float[Tensor, "3 h w"]:
        """The mosaic in its colours, to be looked at."""
        cfa = self.dataset.cfa
        return self._shown(cfa.separate(cfa.unpack(packed[None]))[0])
