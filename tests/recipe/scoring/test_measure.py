import pytest
import torch
from torch import nn

from compresskit.errors import RecipeError
from compresskit.evaluation import Evaluation, as_evaluation
from compresskit.recipe.scoring.measure import Contender, illustrate, measure, measure_model
from compresskit.recipe.scoring.metric import Metric


class Width(Evaluation):
    """The number of inputs of a linear layer."""

    units = {"width": "mm"}  # noqa: RUF012
    lower_is_better = "width"

    def __call__(self, model):
        return {"width": float(model.in_features)}


class Weights(Evaluation):
    """The weights of a linear layer, one sample each."""

    def per_sample(self, model):
        return {"weight": model.weight[0]}


@pytest.fixture
def linear():
    layer = nn.Linear(2, 1, bias=False)
    layer.weight.data = torch.tensor([[1.0, 2.0]])
    return layer


def test_units_and_directions_are_stored_with_the_rows(tmp_path):
    contender = Contender("student", "alone", nn.Linear(2, 2))
    for _ in range(2):  # measured, then read from the file
        (row,) = measure([contender], Width(None), torch.zeros(1, 2), tmp_path, seed=0)
        assert row.columns == [Metric("width", "mm", lower_is_better=True)]


def test_a_stored_row_is_not_measured_again(tmp_path, linear, capsys):
    for _ in range(2):
        (row,) = measure([Contender("student", "alone", linear)], Width(None), torch.zeros(1, 2), tmp_path, seed=0)
        assert (row.metrics, row.parameters, row.macs) == ({"width": 2.0}, 2, 2)
    assert capsys.readouterr().err.splitlines() == ["evaluating student"]


def test_means_are_those_of_the_values_per_sample(linear):
    assert measure_model(linear, Weights(None), seed=0) == ({"weight": 1.5}, {"weight": [1.0, 2.0]})


def test_without_values_per_sample_there_are_means_only(linear):
    assert measure_model(linear, Width(None), seed=0) == ({"width": 2.0}, {})


def test_a_model_is_measured_in_eval_mode_without_gradients_and_returned_as_it_was(linear):
    seen = []

    def note(model):
        seen.append((model.training, torch.is_grad_enabled()))
        return {"score": 0.0}

    measure_model(linear, as_evaluation(note), seed=0)
    assert seen == [(False, False)]
    assert linear.training


def test_random_numbers_of_an_evaluation_come_from_the_seed_and_nobody_elses_change(linear):
    draw = as_evaluation(lambda _: {"score": float(torch.rand(()))})
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    first, one, again = torch.rand(1), measure_model(linear, draw, seed=1), measure_model(linear, draw, seed=1)
    assert one == again != measure_model(linear, draw, seed=2)
    assert torch.cat([first, torch.rand(1)]).equal(expected)


@pytest.mark.parametrize(
    ("measurement", "message"),
    [
        (lambda _: 93.1, r"returns figures by metric, such as {'accuracy': 93.1}, got 93.1"),
        (lambda _: {"iou": [0.1, 0.2]}, r"a metric is a number, got 'iou': \[0.1, 0.2\]. Values per sample are"),
    ],
)
def test_figures_that_are_no_numbers_by_metric_are_refused(linear, measurement, message):
    with pytest.raises(RecipeError, match=message):
        measure_model(linear, as_evaluation(measurement), seed=0)


def test_a_forgotten_return_is_named(linear):
    class Forgetful(Evaluation):
        def per_sample(self, model):
            self.figures = {"weight": model.weight[0]}

    with pytest.raises(RecipeError, match=r"returns figures by metric, such as {'accuracy': 93.1}, got None"):
        measure_model(linear, Forgetful(None), seed=0)


def test_a_mean_in_the_place_of_values_per_sample_is_refused(linear):
    class Mean(Evaluation):
        def per_sample(self, model):
            return {"weight": model.weight.mean()}

    with pytest.raises(RecipeError, match=r"a number for every sample, got 'weight': tensor\(1.5000\). A metric of"):
        measure_model(linear, Mean(None), seed=0)


def test_pictures_have_a_folder_only_if_the_evaluation_draws(tmp_path, linear):
    class Drawn(Weights):
        def illustrate(self, models, folder):
            (folder / "models.txt").write_text(" ".join(models))

    contenders = [Contender("one", "alone", linear), Contender("two", "distilled", linear)]
    illustrate(contenders, Weights(None), tmp_path / "none", seed=0)
    illustrate(contenders, None, tmp_path / "none", seed=0)
    illustrate(contenders, Drawn(None), tmp_path / "images", seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
    assert (tmp_path / "images" / "models.txt").read_text() == "one two"
