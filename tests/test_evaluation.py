import pytest
import torch
from torch import nn

import compresskit
from compresskit import ProgressiveDistiller, Stage, Task
from compresskit.errors import RecipeError
from compresskit.evaluation import Evaluation, as_evaluation, has_own

OPTIONAL = {
    "units": {},
    "lower_is_better": (),
    "baselines": {},
    "methods": {},
}


class Sizes(Evaluation):
    """The size of each sample."""

    def per_sample(self, model):
        return {"size": [float(model(sample)) for sample in self.dataset]}


def test_the_base_class_is_a_public_name():
    assert compresskit.Evaluation is Evaluation


def test_one_method_makes_an_evaluation_and_its_means_are_those_of_the_samples():
    evaluation = Sizes([1.0, 2.0])
    assert evaluation(lambda sample: 2 * sample) == {"size": 3.0}
    assert as_evaluation(evaluation) is evaluation


def test_every_other_member_has_a_default(tmp_path):
    evaluation = Sizes([1.0])
    assert {name: getattr(evaluation, name) for name in OPTIONAL} == OPTIONAL
    assert evaluation.conditions() == {"": evaluation}
    evaluation.illustrate({}, tmp_path)
    evaluation.draw_worst({}, tmp_path / "worst.png")
    evaluation.fit_to([])
    assert list(tmp_path.iterdir()) == []
    assert [has_own(evaluation, name) for name in ("per_sample", "illustrate", "draw_worst", "fit_to")] == [
        True,
        False,
        False,
        False,
    ]


def test_a_plain_function_is_an_evaluation_of_means_only():
    evaluation = as_evaluation(lambda model: {"size": model})
    assert evaluation(3.0) == {"size": 3.0}
    assert evaluation.per_sample(nn.Identity()) == {}
    assert {name: getattr(evaluation, name) for name in OPTIONAL} == OPTIONAL
    assert evaluation.conditions() == {"": evaluation}


class Foreign:
    """Some of the members, in a class that knows nothing of ours."""

    units = {"size": "mm"}  # noqa: RUF012

    def __init__(self):
        self.baselines = {"none": nn.Identity()}

    def per_sample(self, model):
        return {"size": [model, model + 2]}

    def fit_to(self, dataset):
        self.fitted = dataset


def test_an_object_of_another_class_gets_the_members_that_it_lacks():
    foreign = Foreign()
    evaluation = as_evaluation(foreign)
    assert evaluation(1.0) == {"size": 2.0}
    assert evaluation.per_sample(1.0) == {"size": [1.0, 3.0]}
    assert evaluation.units == {"size": "mm"}
    assert evaluation.baselines is foreign.baselines
    assert evaluation.methods == {}
    assert has_own(evaluation, "fit_to")
    assert not has_own(evaluation, "draw_worst")
    evaluation.fit_to("data")
    assert foreign.fitted == "data"


@pytest.mark.parametrize("thing", [object(), Evaluation([]), type("Empty", (Evaluation,), {"persample": len})([])])
def test_without_a_method_that_measures_nothing_is_an_evaluation(thing):
    with pytest.raises(RecipeError, match=rf"^{type(thing).__name__} cannot measure a model: define per_sam"):
        as_evaluation(thing)


def test_there_is_no_member_of_its_own_without_an_evaluation():
    assert not has_own(None, "fit_to")


def test_fit_calls_an_evaluation_at_each_stages_end():
    class Error(Evaluation):
        def per_sample(self, model):
            inputs, targets = self.dataset
            return {"error": (model(inputs) - targets).abs().mean(1).tolist()}

    batch = (torch.randn(4, 3), torch.randn(4, 2))
    stages = [Stage(name, tasks=[Task("mse")], steps=1) for name in ("one", "two")]
    student = nn.Linear(3, 2)
    result = ProgressiveDistiller(None, student, stages, device="cpu").fit([batch], evaluate=Error(batch))
    assert result.stages[1].metrics == {"error": pytest.approx((student(batch[0]) - batch[1]).abs().mean().item())}
    assert len(result.stages) == 2
