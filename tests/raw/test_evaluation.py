import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from compresskit.errors import RecipeError
from zoo.raw import CFA, DemosaicEvaluation, LMMSEPhase, NormalisedConvolution, PhotographCrops, PhotographFrames
from zoo.raw.metrics import psnr
from zoo.raw.pictures import CELL, CROP, Panel, compare, where_models_differ


@pytest.fixture
def frames(folder, paint):
    for name in "abc":
        Image.fromarray(paint(216 + 24 * (name == "b"), 240, ord(name))).save(folder / f"{name}.png")
    return PhotographFrames(folder)


class Picky(nn.Module):
    """Demosaics whole multiples of 32 pixels in eval mode, and nothing else."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.Dropout()
        self.method = NormalisedConvolution("qxq")

    def forward(self, packed):
        assert packed.shape[2] % 16 == packed.shape[3] % 16 == 0
        assert not self.frozen.training
        assert not torch.is_grad_enabled()
        return self.method(packed)


def test_figures_are_those_of_the_metrics_per_photograph(frames):
    evaluation = DemosaicEvaluation(frames)
    model = NormalisedConvolution("qxq")
    figures = evaluation.per_sample(model)
    assert list(figures) == ["psnr", "ssim", "ms_ssim"]
    for index, value in enumerate(figures["psnr"]):
        packed, truth = frames[index]
        assert value == pytest.approx(float(psnr(model(packed[None]), truth[None], border=16)), abs=1e-3)
    assert evaluation(model)["psnr"] == pytest.approx(sum(figures["psnr"]) / 3)


def test_a_model_gets_sizes_it_can_halve_and_is_given_back_as_it_came(frames):
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


def test_baselines_are_there_to_compare_with(frames):
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


def test_the_enlarged_part_lies_where_the_better_models_differ():
    truth = torch.rand(3, 300, 400)
    wrong, poor = truth.clone(), torch.rand(3, 300, 400)
    wrong[:, 120:208, 200:288] += 0.2
    panels = [Panel("right", truth, 50.0), Panel("wrong", wrong, 49.0), Panel("poor", poor, 10.0)]
    assert where_models_differ(truth, panels, border=8) == (120, 200, CROP)


def test_errors_are_shown_below_their_pictures_on_one_scale():
    truth = torch.full((3, 120, 120), 0.5)
    sensed = CFA.named().separate(CFA.named().mosaic(truth[None]))[0]
    panels = [Panel("exact", truth, 90.0), Panel("wrong", truth + 0.1, 20.0)]
    image = compare("grey", truth, sensed, panels)
    row = np.asarray(image)[-CELL // 2]
    assert row[-2 * CELL].sum() < 30
    assert row[-CELL // 2].sum() > 600


def test_a_photograph_smaller_than_the_enlarged_part_is_drawn_too(folder, tmp_path):
    evaluation = DemosaicEvaluation(PhotographFrames(folder))  # 96 pixels high, 64 without the border
    evaluation.illustrate({"one": NormalisedConvolution("qxq")}, tmp_path / "images")
    assert len(list((tmp_path / "images").iterdir())) == 3
