import pytest
import torch

from compresskit.distill.spec.match import Match, Task
from compresskit.distill.spec.stage import Stage
from compresskit.errors import RecipeError
from compresskit.recipe.building.components import build_components, control_stages
from compresskit.recipe.reading.load import load_recipe


def test_models_start_from_the_seed_and_not_from_each_other(toy):
    torch.rand(7)
    one = build_components(load_recipe(toy)).student.state_dict()
    other = build_components(load_recipe(toy, overrides=["teacher._args_.1.bias=false"])).student.state_dict()
    different = build_components(load_recipe(toy, overrides=["seed=4"])).student.state_dict()
    assert one["1.weight"].equal(other["1.weight"])
    assert not one["1.weight"].equal(different["1.weight"])


def test_stages_without_tasks_take_those_of_the_last_stage_that_has_some():
    shared = {"steps": 1, "matches": [Match("a")]}
    stages = (
        Stage("1", train="upstream", **shared),
        Stage("2", tasks=[Task("mse")], train="between", freeze=["b*"], **shared),
        Stage("3", tasks=[Task("l1")], train=["head*"], **shared),
        Stage("4", **shared),
    )
    alone = control_stages(stages)
    assert [stage.tasks[0].loss for stage in alone] == ["l1", "mse", "l1", "l1"]
    assert [stage.train for stage in alone] == [("*",), ("*",), ("head*",), ("*",)]
    assert alone[1].freeze == ("b*",)


def test_a_recipe_may_name_the_function_that_makes_batches(toy):
    recipe = load_recipe(toy, overrides=["data.collate=toy_parts.reversed_batch", "data.batch_size=3"])
    loader = build_components(recipe).loader(recipe, "test", workers=0)
    inputs, _ = next(iter(loader))
    assert torch.equal(inputs[0], loader.dataset[2][0])
    assert "collate" not in load_recipe(toy).resolved()["data"]


def test_a_function_that_does_not_exist_is_refused_at_its_place(toy):
    with pytest.raises(RecipeError, match=r"data\.collate: .*no 'reversed'; did you mean 'reversed_batch'"):
        load_recipe(toy, overrides=["data.collate=toy_parts.reversed"])
