import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from compresskit import RecipeError, load_model
from compresskit.errors import CheckpointError

RECIPE = """\
teacher: {_target_: torch.nn.Linear, in_features: 2, out_features: 5}
student: {_target_: torch.nn.Linear, in_features: 2, out_features: 3}
data: {train: null}
"""


def saved(path, outputs, value):
    linear = nn.Linear(2, outputs)
    nn.init.constant_(linear.weight, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(linear.state_dict(), path)
    return path


@pytest.fixture
def run(tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    saved(tmp_path / "student.safetensors", 3, 1.0)
    saved(tmp_path / "teacher" / "student.safetensors", 5, 2.0)
    saved(tmp_path / "alone" / "student.safetensors", 3, 3.0)
    return tmp_path


@pytest.mark.parametrize(("part", "value"), [("student", 1.0), ("teacher", 2.0), ("alone", 3.0)])
def test_each_model_of_a_run_is_loaded_from_its_folder_and_from_its_file(run, part, value):
    weights = run / {"student": ".", "teacher": "teacher", "alone": "alone"}[part] / "student.safetensors"
    for loaded in (load_model(run, part=part), load_model(weights)):
        assert loaded.part == part
        assert not loaded.model.training
        assert loaded.recipe["student"]["out_features"] == 3
        assert (loaded.model.weight == value).all()


def test_a_card_beside_the_weights_holds_the_recipe(tmp_path):
    node = {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 3}
    saved(tmp_path / "small.safetensors", 3, 7.0)
    (tmp_path / "small.json").write_text(json.dumps({"recipe": {"student": node}, "psnr": 30}))
    assert (load_model(tmp_path / "small.safetensors").model.weight == 7).all()


def test_weights_without_a_recipe_need_a_builder_or_the_recipes_name(tmp_path):
    path = saved(tmp_path / "deep" / "bare.safetensors", 3, 1.0)
    with pytest.raises(CheckpointError, match=r"no recipe.yaml beside it; name the recipe"):
        load_model(path)
    trained = load_model(path, otherwise=lambda state: nn.Linear(2, len(state["bias"])))
    assert (trained.recipe, trained.part) == (None, "student")
    assert (trained.model.weight == 1).all()


def test_a_recipe_may_be_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = saved(tmp_path / "a" / "b" / "bare.safetensors", 3, 1.0)
    Path("mine.yaml").write_text(
        "student: {_target_: torch.nn.Linear, in_features: 2, out_features: 3}\n"
        "data: {train: {_target_: zoo.raw.PhotographCrops}}\nstages: [{name: a, steps: 1, tasks: [mse]}]\n"
    )
    assert load_model(path, recipe="mine.yaml").recipe["name"] == "mine"


def test_missing_and_wrong_files_are_named(run, tmp_path):
    with pytest.raises(RecipeError, match="a run has no model 'teachr'; did you mean 'teacher'"):
        load_model(run, part="teachr")
    (run / "student.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no weights of its student \(student.safetensors\): is it finished"):
        load_model(run)
    saved(run / "student.safetensors", 4, 1.0)
    with pytest.raises(CheckpointError, match=r"'weight' is \(4, 2\) in the file and \(3, 2\) in the model"):
        load_model(run)
    (run / "recipe.yaml").unlink()
    with pytest.raises(CheckpointError, match=r"is no run's folder: it has no recipe.yaml"):
        load_model(tmp_path)


def test_a_teacher_that_was_not_trained_is_loaded_from_the_file_in_the_recipe(run):
    file = saved(run / "elsewhere" / "t.safetensors", 5, 9.0)
    (run / "teacher" / "student.safetensors").unlink()
    (run / "recipe.yaml").write_text(RECIPE.replace("out_features: 5}", f"out_features: 5, weights: '{file}'}}"))
    assert (load_model(run, part="teacher").model.weight == 9).all()


def test_code_in_a_file_of_weights_does_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path(tmp_path / "ran").touch, ())

    torch.save({"weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match="holds more than tensors"):
        load_model(tmp_path / "evil.pth", otherwise=lambda _: nn.Linear(2, 2))
    assert not (tmp_path / "ran").exists()
