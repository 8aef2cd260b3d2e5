import math

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import TensorDataset

from compresskit.errors import RecipeError, ShapeError
from zoo.classify import ClassificationEvaluation, Digits
from zoo.classify.pictures import RIGHT, WRONG, draw_answers

LABELS = [0, 1, 1, 2]


class FirstPixel(nn.Module):
    """A classifier whose answer is the class that the first pixel names."""

    def __init__(self, classes=3):
        super().__init__()
        self.classes = classes

    def forward(self, images):
        assert not self.training
        answers = images[:, 0, 0, 0].long()
        return math.log(2) * nn.functional.one_hot(answers, self.classes).float()


def _dataset(answers):
    images = torch.zeros(len(answers), 1, 2, 2)
    images[:, 0, 0, 0] = torch.tensor(answers)
    return TensorDataset(images, torch.tensor(LABELS))


def test_accuracy_and_cross_entropy_on_a_hand_case():
    # scores (ln 2, 0, 0) are chances of 1/2, 1/4, 1/4
    evaluation = ClassificationEvaluation(_dataset([0, 1, 2, 1]), batch_size=3)
    each = evaluation.per_sample(FirstPixel())
    assert each["accuracy"] == [100.0, 100.0, 0.0, 0.0]
    assert each["cross_entropy"] == pytest.approx([math.log(2), math.log(2), math.log(4), math.log(4)])
    assert evaluation(FirstPixel()) == pytest.approx({"accuracy": 50.0, "cross_entropy": 1.5 * math.log(2)})


def test_every_part_of_the_model_keeps_its_mode():
    model = nn.Sequential(FirstPixel(), nn.Dropout())
    model[1].eval()
    ClassificationEvaluation(_dataset(LABELS))(model)
    assert [module.training for module in model.modules()] == [True, True, False]


@pytest.mark.parametrize("model", [nn.Identity(), FirstPixel(2), nn.Sequential(nn.Flatten(), nn.Flatten(0))])
def test_a_model_without_a_score_for_each_class_is_refused(model):
    dataset = _dataset([0, 0, 1, 1])
    with pytest.raises(ShapeError, match=r"\(4, classes\), with more than 2 classes; this one gave \("):
        ClassificationEvaluation(dataset)(model)


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"illustrations": -1}])
def test_impossible_options_are_refused(options):
    with pytest.raises(RecipeError, match="batch_size must be at least 1 and illustrations at least 0"):
        ClassificationEvaluation(_dataset(LABELS), **options)


def test_images_that_most_models_classify_wrongly_come_first(tmp_path, monkeypatch):
    drawn = {}

    def note(images, truth, answers):
        drawn.update(answers, truth=truth)
        return draw_answers(images, truth, answers)

    monkeypatch.setattr("zoo.classify.pictures.draw_answers", note)
    perfect, blind = FirstPixel(), nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False))
    nn.init.zeros_(blind[1].weight)  # equal scores: the first class
    evaluation = ClassificationEvaluation(_dataset([0, 1, 2, 2]), illustrations=2)
    evaluation.illustrate({"perfect": perfect, "blind": blind}, tmp_path / "images")
    assert drawn == {"truth": ["1", "1"], "perfect": ["2", "1"], "blind": ["0", "0"]}
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["mistakes.png"]


def test_nothing_is_drawn_if_every_answer_is_right(tmp_path):
    ClassificationEvaluation(_dataset(LABELS)).illustrate({"perfect": FirstPixel()}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_wrong_answers_are_red_and_right_ones_green(tmp_path):
    image = Digits("test")[0][0]

    def colours(answer):
        sheet = draw_answers([image], ["seven"], {"model": [answer]})
        sheet.save(tmp_path / "sheet.png")
        return {colour for _, colour in Image.open(tmp_path / "sheet.png").getcolors(10_000)}

    red, green = (tuple(bytes.fromhex(code[1:])) for code in (WRONG, RIGHT))
    assert green in colours("seven")
    assert red not in colours("seven")
    assert red in colours("one")
