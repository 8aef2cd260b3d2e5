"""Best weights, and stages that end on a plateau."""

import copy

import pytest
import torch
from torch import nn

from compresskit import Match, ProgressiveDistiller, RecipeError, Stage, Task, curricula


def test_the_stage_ends_with_the_weights_of_its_best_evaluation(vector_student, vector_batches, sgd):
    weights = []

    def evaluate(model):
        weights.append(model[0].weight.clone())
        return {"psnr": [1.0, 3.0, 2.0, 3.0][len(weights) - 1]}

    stage = Stage("s", tasks=[Task("mse")], steps=6, every=2, best="max psnr", optimizer=sgd)
    result = ProgressiveDistiller(None, vector_student, [stage]).fit(vector_batches, evaluate=evaluate)
    assert [sorted(record.get("metrics", ())) for record in result.history] == [[], ["psnr"]] * 3
    assert torch.equal(vector_student[0].weight, weights[1])
    assert torch.equal(weights[3], weights[1])  # the last evaluation is of the weights that were chosen
    assert result.stages[0].metrics == {"psnr": 3.0}


def test_the_best_evaluation_restores_adapters_and_every_model_that_learns(vector_batches, sgd):
    torch.manual_seed(0)
    teachers = {"large": nn.Linear(3, 4), "middle": nn.Linear(3, 3)}
    student = nn.Linear(3, 2)
    match = Match("middle:.", "large:.", weight=2.0)
    task = Task("mse", student="middle:.", target=lambda y: y[:, [0, 0, 1]])
    stage = Stage("a", matches=[match], tasks=[task], steps=6, every=2, best="max loss", optimizer=sgd)
    result = ProgressiveDistiller(teachers, student, [stage]).fit(vector_batches, val_loader=vector_batches)
    losses = [record["metrics"]["loss"] for record in result.history if "metrics" in record]
    validation = result.stages[0].validation
    assert losses[0] > losses[-1]
    assert validation["loss"] == pytest.approx(losses[0])


def test_a_plateau_ends_the_stage(vector_student, vector_batches, sgd, psnr_sequence):
    until = {"plateau": "max psnr", "patience": 2, "min_delta": 0.5}
    stage = Stage("s", tasks=[Task("mse")], steps=50, every=1, until=until, optimizer=sgd)
    result = ProgressiveDistiller(None, vector_student, [stage, Stage("t", tasks=[Task("mse")], steps=1)]).fit(
        vector_batches, evaluate=psnr_sequence([1.0, 2.0, 2.4, 2.5, 9.0, 9.0])
    )
    assert [record["stage"] for record in result.history] == ["s"] * 4 + ["t"]
    assert result.stages[0].steps == 4


@pytest.mark.usefixtures("frequent_checkpoints")
def test_a_run_that_was_stopped_on_a_plateau_continues_without_training(
    vector_student, vector_batches, sgd, psnr_sequence, tmp_path
):
    until = {"plateau": "max psnr", "patience": 1}
    stage = Stage("s", tasks=[Task("mse")], steps=9, every=1, until=until, best="max psnr", optimizer=sgd)
    whole = copy.deepcopy(vector_student)
    ProgressiveDistiller(None, whole, [stage]).fit(vector_batches, evaluate=psnr_sequence([1.0, 2.0, 1.5, 2.0]))

    values = iter([1.0, 2.0, 1.5])

    def evaluate(_model):
        value = next(values, None)
        if value is None:  # after the plateau, before the stage's end
            raise SystemExit
        return {"psnr": value}

    part = copy.deepcopy(vector_student)
    with pytest.raises(SystemExit):
        ProgressiveDistiller(None, part, [stage], out=tmp_path).fit(vector_batches, evaluate=evaluate)
    result = ProgressiveDistiller(None, vector_student, [stage], out=tmp_path).fit(
        vector_batches, evaluate=psnr_sequence([2.0])
    )
    assert len(result.history) == 3
    assert torch.equal(vector_student[0].weight, whole[0].weight)


def test_the_student_s_metrics_are_no_goal_for_a_stage_in_which_an_assistant_learns(vector_batches):
    teachers = {"large": nn.Linear(3, 2), "middle": nn.Linear(3, 2)}
    stages = curricula.assistants(
        ["large", "middle"], [Match(".")], steps=4, every=1, until={"plateau": "max psnr", "patience": 2}, ema=0.9
    )
    with pytest.raises(RecipeError, match="'psnr' is the student's, and it does not learn here; watch 'loss'"):
        ProgressiveDistiller(teachers, nn.Linear(3, 2), stages).fit(vector_batches, evaluate=lambda _: {"psnr": 1.0})


def test_a_goal_that_is_no_metric_of_the_evaluation_is_refused_with_the_nearest(vector_student, vector_batches):
    with pytest.raises(RecipeError) as caught:
        ProgressiveDistiller(
            None, vector_student, [Stage("s", tasks=[Task("mse")], steps=1, every=1, best="max psmr")]
        ).fit(vector_batches, evaluate=lambda _: {"psnr": 1.0})
    assert "max 'psmr': no such metric was measured; did you mean 'psnr'?" in str(caught.value)


def test_a_goal_that_is_no_term_is_refused_before_the_first_stage(vector_student, vector_batches):
    stages = [
        Stage("a", tasks=[Task("mse")], steps=1),
        Stage("b", tasks=[Task("mse")], steps=1, every=1, best="min los"),
    ]
    with pytest.raises(RecipeError, match="stage 'b': no metric 'los'; did you mean 'loss'"):
        ProgressiveDistiller(None, vector_student, stages).fit(vector_batches, val_loader=vector_batches)
