import torch

from compresskit.recipe.building.closed_form import fit_to_data
from compresskit.recipe.building.components import build_components
from compresskit.recipe.reading.load import load_recipe


def test_equal_modules_are_solved_once_on_the_training_data(toy):
    components = build_components(load_recipe(toy))
    state = fit_to_data(components, seed=0)
    expected = torch.stack([components.train[index][0] for index in range(len(components.train))]).mean(0)
    assert state.keys() == {"teacher.0.mean", "student.0.mean"}
    assert state["student.0.mean"].equal(expected)
    assert [model.get_submodule("0").fits for model in (components.teachers["teacher"], components.student)] == [1, 0]


def test_modules_that_differ_in_any_respect_are_solved_separately(toy):
    components = build_components(load_recipe(toy))
    components.student.get_submodule("0").hint = torch.ones(2)
    fit_to_data(components, seed=0)
    assert [model.get_submodule("0").fits for model in (components.teachers["teacher"], components.student)] == [1, 1]
