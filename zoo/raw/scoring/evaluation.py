"""Demosaicing measured on whole photographs, baselines beside networks."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from compresskit.errors import RecipeError, ShapeError
from compresskit.evaluation import Evaluation
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


class DemosaicEvaluation(Evaluation):
    """PSNR, SSIM and MS-SSIM of a demosaicing model, per photograph and on average; see `zoo.raw.scoring.metrics`.

    A model is any module from packed mosaics (1, 4, h/2, w/2) to pictures (1, 3, h, w). It runs on the device of its
    parameters, in eval mode and without gradients, and returns to its own mode afterwards. Pictures are compared and
    drawn in display encoding, even if mosaics and models are linear.

    Args:
        dataset: The photographs, with the CFA of their mosaics.
        border: Pixels left out on each side.
        multiple: Number of pixels to whose multiples (and those of the CFA's period) mosaics are extended at the right
            and at the bottom; pictures are cut back. PyNET's five scales need 32.
        illustrations: Largest number of photographs to draw.
        noise: Noise levels of `conditions`, each the variance of shot noise at white.

    Raises:
        RecipeError: An option has an impossible value, or a photograph is too small for the border.
    """

    dataset: PhotographFrames
    units: Mapping[str, str] = {"psnr": "dB", "zipper": "%"}
    lower_is_better = ("zipper", "false_colour")

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
        super().__init__(dataset)
        self.border = border
        self.multiple = math.lcm(multiple, dataset.cfa.period)
        self.illustrations = illustrations
        self.noise = tuple(noise)
        self.metrics = {"psnr": psnr, "ssim": ssim}
        if smallest >= MS_SSIM_SIDE:
            self.metrics["ms_ssim"] = ms_ssim
        self.baselines: Mapping[str, nn.Module] = {
            "bin + bicubic": BinBicubic(dataset.cfa),
            "normalised convolution": NormalisedConvolution(dataset.cfa),
            "LMMSE-phase": LMMSEPhase(dataset.cfa),
        }
        """Methods of the table at a run's end. LMMSE-phase has to be fitted to training photographs first."""
        self.methods: Mapping[str, Callable[[], nn.Module]] = {
            name: partial(method, dataset.cfa) for name, method in UNFITTED.items()
        }
        """Every method by name. Some have to be fitted like LMMSE-phase."""

    def conditions(self) -> dict[str, "DemosaicEvaluation"]:
        """Return evaluations without noise and at each noise level, by name, with zipper and false colour too.

        Beside each level of shot noise there is the read noise that phone cameras usually have. Everything else that
        the dataset's sensor does is the same under all conditions. Without a sensor, mosaics without noise are exact.
        """
        sensor = self.dataset.sensor
        quiet = None if sensor is None else replace(sensor, shot=0.0, read=0.0, rows=0.0)
        conditions = {"noise-free": self._with_sensor(quiet)}
        for level in self.noise:
            noisy = replace(sensor or Sensor(), shot=level, read=usual_read(level))
            conditions[f"shot noise {level:g}"] = self._with_sensor(noisy)
        return conditions

    def _with_sensor(self, sensor: Sensor | None) -> "DemosaicEvaluation":
        other = copy.copy(self)
        other.dataset = self.dataset.seen_by(sensor)
        other.metrics = self.metrics | {"zipper": zipper, "false_colour": false_colour}
        return other

    def per_sample(self, model: nn.Module) -> dict[str, list[float]]:
        """Return each metric of each photograph, in the order of the dataset.

        MS-SSIM is left out if a photograph is too small for it.
        """
        figures: dict[str, list[float]] = {name: [] for name in self.metrics}
        for index in range(len(self.dataset)):
            packed, truth = self.dataset[index]
            picture, truth = self._displayed(self.demosaic(model, packed)), self._displayed(truth)
            for name, metric in self.metrics.items():
                figures[name].append(float(metric(picture[None], truth[None], border=self.border)))
        return figures

    def demosaic(self, model: nn.Module, packed: Float[Tensor, "4 h2 w2"]) -> Float[Tensor, "3 h w"]:
        """Return the model's picture of one packed mosaic, on the CPU in float32.

        Raises:
            ShapeError: The model is for mosaics of another CFA than the dataset's.
        """
        cfa = self.dataset.cfa
        model_cfa = getattr(model, "cfa", cfa)
        if model_cfa != cfa:
            raise ShapeError(f"{type(model).__name__} is made for {model_cfa}, and the data have mosaics of {cfa}")
        mosaic = cfa.unpack(packed[None])
        height, width = mosaic.shape[2:]
        extended = cfa.pack(cfa.extend(mosaic, (0, -width % self.multiple, 0, -height % self.multiple)))
        with preserve_state(model), torch.no_grad():
            model.eval()
            picture = model(extended.to(device_of(model)))
        return picture[0, :, :height, :width].float().cpu()

    def illustrate(self, models: Mapping[str, nn.Module], folder: Path) -> None:
        """Draw one PNG for each photograph, with the models side by side where they differ most."""
        from zoo.raw.scoring.side_by_side import Panel, draw_side_by_side

        folder.mkdir(parents=True, exist_ok=True)
        for index in range(min(self.illustrations, len(self.dataset))):
            packed, truth = self.dataset[index]
            truth = self._displayed(truth)
            panels = [
                Panel(name, picture, float(psnr(picture[None], truth[None], border=self.border)))
                for name, picture in self._pictures(models, packed).items()
            ]
            name, sensed = self.dataset.names[index], self._in_colours(packed)
            image = draw_side_by_side(name, truth, sensed, panels, border=self.border)
            image.save(folder / f"{name.replace('/', '_')}.png")

    def draw_worst(self, models: Mapping[str, nn.Module], path: Path) -> None:
        """Draw one PNG of the places where the first model is worst, with all models side by side."""
        from zoo.raw.scoring.sheet import SheetRow, Square, draw_sheet, worst_squares

        first = next(iter(models.values()))
        squares: list[Square] = []
        for index in range(len(self.dataset)):
            packed, truth = self.dataset[index]
            error = (self._displayed(self.demosaic(first, packed)) - self._displayed(truth)).square().mean(0)
            squares += worst_squares(index, error, border=self.border)
        worst = sorted(squares, key=lambda square: -square.error)[: self.illustrations]
        pictures: dict[int, Mapping[str, Tensor]] = {}
        rows = []
        for square in worst:
            index = square.photograph
            packed, truth = self.dataset[index]
            if index not in pictures:
                pictures[index] = self._pictures(models, packed)
            truth, sensed = self._displayed(truth), self._in_colours(packed)
            rows.append(SheetRow(self.dataset.names[index], square, truth, sensed, pictures[index]))
        if rows:
            draw_sheet(rows).save(path)

    def _pictures(
        self, models: Mapping[str, nn.Module], packed: Float[Tensor, "4 h2 w2"]
    ) -> dict[str, Float[Tensor, "3 h w"]]:
        """Return each model's picture of one packed mosaic, in display encoding."""
        return {name: self._displayed(self.demosaic(model, packed)) for name, model in models.items()}

    def _displayed(self, picture: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 h w"]:
        """Return a picture in display encoding, clipped to black and white."""
        return convert(picture.clamp(0, 1), self.dataset.domain, "display")

    def _in_colours(self, packed: Float[Tensor, "4 h2 w2"]) -> Float[Tensor, "3 h w"]:
        """Return the mosaic with each pixel in the colour of its filter."""
        cfa = self.dataset.cfa
        return self._displayed(cfa.separate(cfa.unpack(packed[None]))[0])
