"""Losses on logits: the same classes on both sides, by a choice among the teacher's and never by an adapter."""

import pytest
import torch
from torch import nn

from compresskit import Match, ProgressiveDistiller, RecipeError, ShapeError, Stage
from compresskit.distill.spec.describe import describe
from compresskit.losses import CATALOGUE, kl
from compresskit.recipe.reading.stage_nodes import describe_stages, parse_stages

ON_LOGITS = [name for name, entry in CATALOGUE.items() if entry.logits and name != "cross_entropy"]


def plan(student, teacher, inputs, *, targets=None, **options):
    stage = Stage("s", matches=[Match(".", **options)], steps=1)
    return ProgressiveDistiller(teacher, student, [stage]).plan((inputs, targets))


@pytest.mark.parametrize("loss", [*ON_LOGITS, "torchdistill.DISTLoss", "torch.nn.KLDivLoss", nn.functional.kl_div])
@pytest.mark.parametrize("shape", [(4, 6), (4, 5, 6)], ids=["vectors", "tokens"])
def test_no_adapter_is_put_between_logits_of_other_classes(loss, shape):
    with pytest.raises(ShapeError) as caught:
        plan(nn.Linear(6, 10), nn.Linear(6, 11), torch.randn(shape), targets=torch.zeros(shape[:-1]).long(), loss=loss)
    assert "these have 10 and 11; an adapter would learn in the student's place" in str(caught.value)
    assert "classes=slice(10), or give an adapter" in str(caught.value)


def test_maps_of_logits_are_resized_and_their_classes_left_alone():
    student, teacher = nn.Conv2d(3, 4, 1, stride=2), nn.Conv2d(3, 4, 1)
    planned = plan(student, teacher, torch.randn(2, 3, 8, 8), loss="kl").stages[0]
    assert planned.terms[0].adapter == "resize to 8x8"
    assert planned.adapter_elements == 0
    with pytest.raises(ShapeError, match="these have 4 and 5"):
        plan(student, nn.Conv2d(3, 5, 1), torch.randn(2, 3, 8, 8), loss="kl")


@pytest.mark.parametrize(
    ("classes", "index"), [(slice(10), slice(10)), (":10", slice(10)), ([3, *range(9)], [3, *range(9)])]
)
@pytest.mark.parametrize("shape", [(4, 6), (4, 5, 6)], ids=["vectors", "tokens"])
def test_the_chosen_classes_of_the_teacher_are_compared(classes, index, shape):
    student, teacher, inputs = nn.Linear(6, 10), nn.Linear(6, 12), torch.randn(shape)
    planned = plan(student, teacher, inputs, loss="kl", classes=classes).stages[0]
    assert planned.terms[0].value == pytest.approx(kl(student(inputs), teacher(inputs)[..., index]).item(), rel=1e-5)
    assert planned.adapter_elements == 0
    assert planned.terms[0].adapter.startswith("classes :10" if isinstance(index, slice) else "10 chosen classes")


def test_an_adapter_by_hand_is_the_other_way_out():
    planned = plan(nn.Linear(6, 10), nn.Linear(6, 11), torch.randn(4, 6), loss="kl", adapter=nn.Linear(10, 11))
    assert planned.stages[0].adapter_elements == 121


@pytest.mark.parametrize(
    ("classes", "message"),
    [("ten", "classes must be a slice"), (10, "classes must be a slice"), ([0.5], "must be a slice"), ([], "must be")],
)
def test_what_is_no_choice_of_classes_is_refused(classes, message):
    with pytest.raises(RecipeError, match=message):
        Match(".", loss="kl", classes=classes)


def test_a_choice_that_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match="classes: the teacher has classes 0 to 11, got 12"):
        plan(nn.Linear(6, 2), nn.Linear(6, 12), torch.randn(4, 6), loss="kl", classes=[0, 12])
    with pytest.raises(ShapeError, match="these have 10 and 9"):
        plan(nn.Linear(6, 10), nn.Linear(6, 12), torch.randn(4, 6), loss="kl", classes=":9")
    with pytest.raises(RecipeError, match="mse is no loss on logits; choose by the teacher's address"):
        Match(".", classes=":9")


def test_a_recipe_writes_the_choice_as_text_and_a_match_without_one_is_described_as_before():
    (stage,) = stages = parse_stages(
        [{"name": "s", "steps": 1, "matches": [{"student": ".", "loss": "kl", "classes": ":9"}]}]
    )
    assert stage.matches[0].classes == slice(9)
    assert describe_stages(stages)[0]["matches"][0]["classes"] == ":9"
    assert "classes" not in describe(Match("."))
