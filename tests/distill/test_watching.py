"""Averages, best weights, plateaus, gradient norms and parameter groups: what a stage does beside plain training."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compresskit import Match, ProgressiveDistiller, RecipeError, Stage, Task, curricula
from compresskit.distill.training.ema import moving_average

SGD = {"_target_": "torch.optim.SGD", "lr": 0.1}


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(8, 3, generator=generator), torch.randn(8, 2, generator=generator)) for _ in range(2)]


@pytest.fixture
def student():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def test_the_average_follows_by_the_formula():
    model = nn.Linear(1, 1, bias=False)
    average = moving_average(model, decay=0.25)
    expected = None
    for number, value in enumerate([1.0, 5.0, 3.0, 8.0]):
        nn.init.constant_(model.weight, value)
        average.update_parameters(model)
        decay = min(0.25, (1 + number) / (10 + number))
        expected = value if expected is None else decay * expected + (1 - decay) * value
        assert average.module.weight.item() == pytest.approx(expected)


def test_with_an_average_the_run_gives_back_a_copy_and_the_student_trains_as_without(student, batches):
    plain = copy.deepcopy(student)
    seen = []
    stage = {"tasks": [Task("mse")], "steps": 6, "optimizer": SGD}
    ProgressiveDistiller(None, plain, [Stage("s", **stage)]).fit(batches)
    result = ProgressiveDistiller(None, student, [Stage("s", **stage, ema=0.9)]).fit(
        batches, evaluate=lambda model: seen.append(model[0].weight.clone()) or {}
    )
    assert result.student is not student
    assert torch.equal(student[0].weight, plain[0].weight)
    assert not torch.equal(result.student[0].weight, student[0].weight)
    assert torch.equal(result.student[1].running_mean, student[1].running_mean)
    assert torch.equal(seen[0], result.student[0].weight)  # evaluate sees the averaged weights


def scripted(values):
    """An evaluation that gives one value after the other."""
    left = list(values)
    return lambda _model: {"psnr": left.pop(0)}


def test_the_stage_ends_with_the_weights_of_its_best_evaluation(student, batches):
    weights = []

    def evaluate(model):
        weights.append(model[0].weight.clone())
        return {"psnr": [1.0, 3.0, 2.0, 3.0][len(weights) - 1]}

    stage = Stage("s", tasks=[Task("mse")], steps=6, every=2, best="max psnr", optimizer=SGD)
    result = ProgressiveDistiller(None, student, [stage]).fit(batches, evaluate=evaluate)
    assert [sorted(record.get("metrics", ())) for record in result.history] == [[], ["psnr"]] * 3
    assert torch.equal(student[0].weight, weights[1])
    assert torch.equal(weights[3], weights[1])  # the last evaluation is of the weights that were chosen
    assert result.stages[0].metrics == {"psnr": 3.0}


def test_a_plateau_ends_the_stage(student, batches):
    until = {"plateau": "max psnr", "patience": 2, "min_delta": 0.5}
    stage = Stage("s", tasks=[Task("mse")], steps=50, every=1, until=until, optimizer=SGD)
    result = ProgressiveDistiller(None, student, [stage, Stage("t", tasks=[Task("mse")], steps=1)]).fit(
        batches, evaluate=scripted([1.0, 2.0, 2.4, 2.5, 9.0, 9.0])
    )
    assert [record["stage"] for record in result.history] == ["s"] * 4 + ["t"]
    assert result.stages[0].steps == 4


def test_validation_terms_and_their_sum_can_be_watched(student, batches):
    stage = Stage("s", tasks=[Task("mse", weight=2.0)], steps=4, every=2, best="min loss", optimizer=SGD)
    result = ProgressiveDistiller(None, student, [stage]).fit(batches, val_loader=batches)
    metrics = result.history[1]["metrics"]
    assert metrics["loss"] == pytest.approx(2 * metrics["mse(., target)"])


def test_a_run_stopped_on_a_plateau_does_not_train_on_when_it_goes_on(student, batches, tmp_path, monkeypatch):
    monkeypatch.setattr("compresskit.distill.session.run_folder.CHECKPOINT_SECONDS", 0.0)
    until = {"plateau": "max psnr", "patience": 1}
    stage = Stage("s", tasks=[Task("mse")], steps=9, every=1, until=until, best="max psnr", optimizer=SGD)
    whole = copy.deepcopy(student)
    ProgressiveDistiller(None, whole, [stage]).fit(batches, evaluate=scripted([1.0, 2.0, 1.5, 2.0]))

    class Stops(BaseException):
        pass

    values = iter([1.0, 2.0, 1.5])

    def evaluate(_model):
        value = next(values, None)
        if value is None:  # after the plateau, before the stage's end
            raise Stops
        return {"psnr": value}

    part = copy.deepcopy(student)
    with pytest.raises(Stops):
        ProgressiveDistiller(None, part, [stage], out=tmp_path).fit(batches, evaluate=evaluate)
    result = ProgressiveDistiller(None, student, [stage], out=tmp_path).fit(batches, evaluate=scripted([2.0]))
    assert len(result.history) == 3
    assert torch.equal(student[0].weight, whole[0].weight)


def test_gradient_norms_are_those_of_each_term_alone(student, batches):
    by_hand = copy.deepcopy(student)
    tasks = [Task("mse", weight=3.0), Task("l1")]
    history = (
        ProgressiveDistiller(None, student, [Stage("s", tasks=tasks, steps=3, gradient_norms=2)]).fit(batches).history
    )
    inputs, targets = batches[0]
    for name, loss in (("mse(., target)", F.mse_loss), ("l1(., target)", F.l1_loss)):
        found = torch.autograd.grad(loss(by_hand(inputs), targets), list(by_hand.parameters()))
        norm = torch.cat([gradient.flatten() for gradient in found]).norm().item()
        assert history[0]["terms"][name]["gradient_norm"] == pytest.approx(norm, rel=1e-5)
    assert ["gradient_norm" in record["terms"]["l1(., target)"] for record in history] == [True, False, True]


def test_groups_have_their_own_options_and_adapters_are_among_them(batches):
    teacher, student = nn.Linear(3, 4), nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    made = []

    def optimizer(groups):
        made.extend(groups)
        return torch.optim.SGD(groups, lr=0.1)

    groups = {"0.*": {"lr": 0.0}, "adapter:*": {"lr": 0.5, "weight_decay": 0.1}}
    stage = Stage("s", matches=[Match(".")], steps=1, optimizer=optimizer, groups=groups)
    before = student[0].weight.clone(), student[1].weight.clone()
    ProgressiveDistiller(teacher, student, [stage]).fit(batches)
    assert torch.equal(before[0], student[0].weight)
    assert not torch.equal(before[1], student[1].weight)
    shapes = [[tuple(parameter.shape) for parameter in group["params"]] for group in made[-3:]]
    assert shapes == [[(2, 2), (2,)], [(2, 3), (2,)], [(4, 2), (4,)]]
    assert made[-1]["weight_decay"] == 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": {"heed.*": {"lr": 1.0}}}, "groups: 'heed.*' matches no parameter"),
        ({"groups": {"0.*": {"learning_rate": 1.0}}}, "AdamW has no option 'learning_rate'"),
        ({"every": 1, "best": "max psmr"}, "max 'psmr': no such metric was measured; did you mean 'psnr'?"),
    ],
)
def test_what_is_not_there_is_named_with_the_nearest(student, batches, options, message):
    with pytest.raises(RecipeError) as caught:
        ProgressiveDistiller(None, student, [Stage("s", tasks=[Task("mse")], steps=1, **options)]).fit(
            batches, evaluate=lambda _: {"psnr": 1.0}
        )
    assert message in str(caught.value)


def test_every_needs_something_to_evaluate_with(student, batches):
    with pytest.raises(RecipeError, match="every=1, but there is nothing to evaluate with"):
        ProgressiveDistiller(None, student, [Stage("s", tasks=[Task("mse")], steps=1, every=1)]).fit(batches)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ema": 1.0}, "ema must be a decay from 0 to below 1, got 1.0"),
        ({"best": "max psnr"}, "every must say after how many steps to evaluate"),
        ({"best": "psnr", "every": 1}, "best must be 'max METRIC' or 'min METRIC', got 'psnr'"),
        ({"until": {"plateu": "max psnr"}, "every": 1}, "until must be a mapping such as"),
        ({"until": {"plateau": "max psnr", "patiense": 1}, "every": 1}, "did you mean 'patience' or"),
        ({"groups": {"a": 1}}, "groups must be a mapping of globs to options"),
        ({"gradient_norms": 0}, "gradient_norms must be a whole number of at least 1"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_found(options, message):
    with pytest.raises(RecipeError) as caught:
        Stage("s", tasks=[Task("mse")], steps=1, **options)
    assert message in str(caught.value)


def test_the_best_evaluation_brings_back_adapters_and_every_model_that_learns(batches):
    torch.manual_seed(0)
    teachers = {"large": nn.Linear(3, 4), "middle": nn.Linear(3, 3)}
    student = nn.Linear(3, 2)
    match, task = (
        Match("middle:.", "large:.", weight=2.0),
        Task("mse", student="middle:.", target=lambda y: y[:, [0, 0, 1]]),
    )
    stage = Stage("a", matches=[match], tasks=[task], steps=6, every=2, best="max loss", optimizer=SGD)
    result = ProgressiveDistiller(teachers, student, [stage]).fit(batches, val_loader=batches)
    seen = [record["metrics"]["loss"] for record in result.history if "metrics" in record]
    validation = result.stages[0].validation
    assert seen[0] > seen[-1]
    assert validation["loss"] == pytest.approx(seen[0])


def test_with_an_average_the_best_is_the_average_of_then_with_its_buffers(student, batches):
    stage = Stage("s", tasks=[Task("mse")], steps=6, every=2, best="max loss", ema=0.5, optimizer=SGD)
    result = ProgressiveDistiller(None, student, [stage]).fit(batches, val_loader=batches)
    seen = [record["metrics"]["loss"] for record in result.history if "metrics" in record]
    assert result.stages[0].validation["loss"] == pytest.approx(max(seen))


def test_where_an_assistant_learns_the_student_s_metrics_are_no_goal(batches):
    teachers = {"large": nn.Linear(3, 2), "middle": nn.Linear(3, 2)}
    stages = curricula.assistants(
        ["large", "middle"], [Match(".")], steps=4, every=1, until={"plateau": "max psnr", "patience": 2}, ema=0.9
    )
    with pytest.raises(RecipeError, match="'psnr' is the student's, and it does not learn here; watch 'loss'"):
        ProgressiveDistiller(teachers, nn.Linear(3, 2), stages).fit(batches, evaluate=lambda _: {"psnr": 1.0})


def test_a_misspelt_goal_is_found_before_the_first_stage(student, batches):
    stages = [
        Stage("a", tasks=[Task("mse")], steps=1),
        Stage("b", tasks=[Task("mse")], steps=1, every=1, best="min los"),
    ]
    with pytest.raises(RecipeError, match="stage 'b': no metric 'los'; did you mean 'loss'"):
        ProgressiveDistiller(None, student, stages).fit(batches, val_loader=batches)


def test_stages_of_a_curriculum_share_their_groups(batches):
    teacher, student = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    stages = curricula.fitnets(
        [Match("0")], [Match(".")], steps=1, groups={"adapter:*": {"lr": 1e-2}, "1.*": {"lr": 1e-4}}
    )
    assert len(ProgressiveDistiller(teacher, student, stages).fit(batches).history) == 2
