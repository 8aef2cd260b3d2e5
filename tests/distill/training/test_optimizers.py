"""Optimizers with parameter groups, learning-rate schedulers, and fused implementations."""

import pytest
import torch
from torch import nn

from compresskit import Match, ProgressiveDistiller, RecipeError, Stage, Task, curricula
from compresskit.distill.training.optimizers import make_optimizer

SGD = {"_target_": "torch.optim.SGD", "lr": 0.02}


def test_warmup_rises_to_the_peak_and_falls_to_the_end(student, batches):
    scheduler = {"_target_": "compresskit.schedules.WarmupCosine", "warmup": 0.3, "final": 0.1}
    stage = Stage("s", tasks=[Task("cross_entropy")], steps=10, scheduler=scheduler)
    rates = [record["lr"] for record in ProgressiveDistiller(None, student, [stage]).fit(batches).history]
    assert rates[:4] == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3])
    assert rates[-1] == pytest.approx(1e-4)
    assert rates[3:] == sorted(rates[3:], reverse=True)


def test_groups_have_their_own_options_and_may_hold_adapters(vector_batches):
    teacher, student = nn.Linear(3, 4), nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    all_groups = []

    def optimizer(groups):
        all_groups.extend(groups)
        return torch.optim.SGD(groups, lr=0.1)

    groups = {"0.*": {"lr": 0.0}, "adapter:*": {"lr": 0.5, "weight_decay": 0.1}}
    stage = Stage("s", matches=[Match(".")], steps=1, optimizer=optimizer, groups=groups)
    before = student[0].weight.clone(), student[1].weight.clone()
    ProgressiveDistiller(teacher, student, [stage]).fit(vector_batches)
    assert torch.equal(before[0], student[0].weight)
    assert not torch.equal(before[1], student[1].weight)
    shapes = [[tuple(parameter.shape) for parameter in group["params"]] for group in all_groups[-3:]]
    assert shapes == [[(2, 2), (2,)], [(2, 3), (2,)], [(4, 2), (4,)]]
    assert all_groups[-1]["weight_decay"] == 0.1


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"heed.*": {"lr": 1.0}}, "groups: 'heed.*' matches no parameter"),
        ({"0.*": {"learning_rate": 1.0}}, "AdamW has no option 'learning_rate'"),
    ],
)
def test_a_group_of_no_parameter_or_with_an_unknown_option_is_refused(vector_student, vector_batches, groups, message):
    with pytest.raises(RecipeError) as caught:
        ProgressiveDistiller(None, vector_student, [Stage("s", tasks=[Task("mse")], steps=1, groups=groups)]).fit(
            vector_batches, evaluate=lambda _: {"psnr": 1.0}
        )
    assert message in str(caught.value)


def test_stages_of_a_curriculum_share_their_groups(vector_batches):
    teacher, student = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    stages = curricula.fitnets(
        [Match("0")], [Match(".")], steps=1, groups={"adapter:*": {"lr": 1e-2}, "1.*": {"lr": 1e-4}}
    )
    assert len(ProgressiveDistiller(teacher, student, stages).fit(vector_batches).history) == 2


@pytest.mark.parametrize(
    ("optimizer", "fused"),
    [
        (None, True),
        (SGD, True),
        ({**SGD, "foreach": True}, None),
        ({**SGD, "fused": False}, False),
        ({"_target_": "torch.optim.Rprop"}, None),
    ],
)
def test_an_optimizer_is_fused_if_it_can_be_and_the_stage_asks_for_nothing_else(optimizer, fused, perceptron):
    stage = Stage("s", tasks=[Task("mse")], steps=1, optimizer=optimizer)
    built = make_optimizer(stage, dict(perceptron(1).named_parameters()), {}, (), fused=True)
    assert built.param_groups[0].get("fused") is fused
