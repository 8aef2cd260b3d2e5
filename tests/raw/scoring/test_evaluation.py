from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from compresskit.errors import RecipeError, ShapeError
from zoo.raw import (
    CFA,
    DemosaicEvaluation,
    LMMSEPhase,
    NormalisedConvolution,
    PhotographCrops,
    PhotographFrames,
    Sensor,
)
from zoo.raw.scoring.metrics import psnr
from zoo.raw.scoring.side_by_side import CELL


@pytest.fixture
def frames(folder, paint):
    for name in "abc":
        Image.fromarray(paint(216 + 24 * (name == "b"), 240, ord(name))).save(folder / f"{name}.png")
    return PhotographFrames(folder)


class Picky(nn.Module):
    """A demosaicing model for multiples of 32 pixels, in eval mode without gradients."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.Dropout()
        self.method = NormalisedConvolution("qxq")

    def forward(self, packed):
        assert packed.shape[2] % 16 == packed.shape[3] % 16 == 0
        assert not self.frozen.training
        assert not torch.is_grad_enabled()
        return self.method(packed)


def test_each_photograph_has_its_own_figures_and_a_call_returns_their_means(frames):
    evaluation = DemosaicEvaluation(frames)
    model = NormalisedConvolution("qxq")
    figures = evaluation.per_sample(model)
    assert list(figures) == ["psnr", "ssim", "ms_ssim"]
    for index, value in enumerate(figures["psnr"]):
        packed, truth = frames[index]
        assert value == pytest.approx(float(psnr(model(packed[None]), truth[None], border=16)), abs=1e-3)
    assert evaluation(model)["psnr"] == pytest.approx(sum(figures["psnr"]) / 3)


def test_a_model_gets_sizes_that_it_can_halve_and_keeps_its_mode(frames):
    model = Picky().train()
    model.frozen.eval()
    model.method.train()
    packed, truth = frames[0]
    assert DemosaicEvaluation(frames).demosaic(model, packed).shape == truth.shape
    assert [model.training, model.frozen.training, model.method.training] == [True, False, True]


def test_extending_a_mosaic_changes_nothing_inside(frames):
    model, (packed, _) = NormalisedConvolution("qxq"), frames[0]
    one, other = (DemosaicEvaluation(frames, multiple=multiple).demosaic(model, packed) for multiple in (8, 128))
    torch.testing.assert_close(one[:, :-16, :-16], other[:, :-16, :-16])


def test_baselines_are_in_the_order_of_their_psnr(frames):
    evaluation = DemosaicEvaluation(frames)
    assert list(evaluation.baselines) == ["bin + bicubic", "normalised convolution", "LMMSE-phase"]
    best = evaluation.baselines["LMMSE-phase"]
    assert isinstance(best, LMMSEPhase)
    best.fit_to(PhotographCrops("bundled:train"))
    figures = [evaluation(model)["psnr"] for model in evaluation.baselines.values()]
    assert figures == sorted(figures)


def test_ms_ssim_is_left_out_where_a_photograph_is_too_small_for_it(folder):
    evaluation = DemosaicEvaluation(PhotographFrames(folder))
    assert list(evaluation(NormalisedConvolution("qxq"))) == ["psnr", "ssim"]


def test_impossible_options_are_refused(folder):
    with pytest.raises(RecipeError, match="border 48 leaves too little of the smallest photograph"):
        DemosaicEvaluation(PhotographFrames(folder), border=48)
    with pytest.raises(RecipeError, match="multiple at least 1"):
        DemosaicEvaluation(PhotographFrames(folder), multiple=0)


def test_one_image_is_drawn_for_each_photograph_up_to_a_number(frames, tmp_path):
    evaluation = DemosaicEvaluation(frames, illustrations=2)
    models = {"one": NormalisedConvolution("qxq"), "another": NormalisedConvolution("qxq", sigma=3.0)}
    evaluation.illustrate(models, tmp_path / "images")
    files = sorted((tmp_path / "images").iterdir())
    assert [file.name for file in files] == ["a.png", "b.png"]
    with Image.open(files[0]) as image:
        assert image.width > 4 * CELL


def test_a_photograph_smaller_than_the_enlarged_part_is_drawn_too(folder, tmp_path):
    evaluation = DemosaicEvaluation(PhotographFrames(folder))  # 96 pixels high, 64 without the border
    evaluation.illustrate({"one": NormalisedConvolution("qxq")}, tmp_path / "images")
    assert len(list((tmp_path / "images").iterdir())) == 3


def test_conditions_go_from_no_noise_to_most_noise(frames):
    conditions = DemosaicEvaluation(frames, noise=(1e-3, 1e-2)).conditions()
    assert list(conditions) == ["noise-free", "shot noise 0.001", "shot noise 0.01"]
    model = NormalisedConvolution("qxq")
    figures = [evaluation.per_sample(model) for evaluation in conditions.values()]
    assert list(figures[0]) == ["psnr", "ssim", "ms_ssim", "zipper", "false_colour"]
    assert figures[0]["psnr"] == DemosaicEvaluation(frames).per_sample(model)["psnr"]
    for quieter, noisier in pairwise(figures):
        assert all(one > other for one, other in zip(quieter["psnr"], noisier["psnr"], strict=True))
    sensor = conditions["shot noise 0.01"].dataset.sensor
    assert sensor.shot == 0.01
    assert sensor.read == pytest.approx(np.exp(2.18 * np.log(0.01) + 1.20))  # the line of Brooks et al.
    assert DemosaicEvaluation.lower_is_better == ("zipper", "false_colour")


def test_everything_but_noise_is_the_same_under_every_condition(folder):
    uneven = PhotographFrames(folder, sensor=Sensor(shot=1e-3, rows=0.01, crosstalk=0.05))
    quiet, *noisy = (evaluation.dataset.sensor for evaluation in DemosaicEvaluation(uneven).conditions().values())
    assert (quiet.shot, quiet.read, quiet.rows, quiet.crosstalk) == (0, 0, 0, 0.05)
    assert [(sensor.shot, sensor.rows, sensor.crosstalk) for sensor in noisy] == [
        (level, 0.01, 0.05) for level in (1e-4, 1e-3, 1e-2)
    ]


def test_methods_are_built_for_the_array_of_the_data(folder):
    evaluation = DemosaicEvaluation(PhotographFrames(folder, cfa="quad"))
    method = evaluation.methods["skr"]()
    assert method.cfa == CFA.of("quad")
    assert evaluation(method)["psnr"] > evaluation(evaluation.methods["nc"]())["psnr"]


class Truth(nn.Module):
    """A model that returns one picture for every mosaic."""

    def __init__(self, picture):
        super().__init__()
        self.picture = picture

    def forward(self, packed):
        height, width = 2 * packed.shape[2], 2 * packed.shape[3]
        return nn.functional.pad(self.picture, (0, width - self.picture.shape[2], 0, height - self.picture.shape[1]))[
            None
        ]


def test_linear_pictures_are_compared_in_display_encoding(folder):
    (folder / "b.png").unlink()
    (folder / "c.png").unlink()
    linear = PhotographFrames(folder, domain="linear")
    stored = PhotographFrames(folder)[0][1]
    _, truth = linear[0]
    torch.testing.assert_close(truth, ((stored + 0.055) / 1.055).clamp(min=0) ** 2.4, atol=5e-3, rtol=0)
    darker = (stored - 0.1).clamp(0.05, 1)
    model = Truth(((darker + 0.055) / 1.055) ** 2.4)
    expected = float(psnr(darker[None], stored[None], border=16))
    assert DemosaicEvaluation(linear)(model)["psnr"] == pytest.approx(expected, abs=1e-3)


def test_the_sheet_has_a_row_for_each_place_where_the_first_model_is_worst(frames, tmp_path):
    evaluation = DemosaicEvaluation(frames, illustrations=3)
    evaluation.draw_worst(
        {"one": NormalisedConvolution("qxq"), "two": NormalisedConvolution("qxq", sigma=3.0)}, tmp_path / "worst.png"
    )
    with Image.open(tmp_path / "worst.png") as sheet:
        assert sheet.width > 4 * CELL
        assert 3 * CELL < sheet.height < 4 * CELL


def test_impossible_noise_is_refused(folder):
    with pytest.raises(RecipeError, match=r"noise levels are variances above 0, got \[0\.0\]"):
        DemosaicEvaluation(PhotographFrames(folder), noise=[0.0])


def test_a_model_for_another_array_is_refused(folder):
    evaluation = DemosaicEvaluation(PhotographFrames(folder, cfa="quad-rggb"))
    message = r"NormalisedConvolution is made for CFA\(quad-grbg\), and the data have mosaics of CFA\(quad-rggb\)"
    with pytest.raises(ShapeError, match=message):
        evaluation(NormalisedConvolution("quad"))
