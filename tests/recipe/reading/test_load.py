from pathlib import Path

import pytest

from compresskit.distill.spec.match import Match, Task
from compresskit.distill.spec.stage import Stage
from compresskit.errors import RecipeError
from compresskit.recipe.reading import yaml
from compresskit.recipe.reading.load import load_recipe
from compresskit.recipe.reading.shipped import shipped_recipes


def test_a_recipe_is_parsed_into_the_objects_that_python_users_write(toy):
    recipe = load_recipe(toy)
    assert recipe.pretrain == {"teacher": (Stage("fit", steps=6, tasks=[Task("mse")]),)}
    assert recipe.stages[0] == Stage("features", steps=4, train="upstream", matches=[Match("1", weight=0.5)])
    assert recipe.stages[1].tasks == (Task("l1", weight=0.1),)
    assert (recipe.name, recipe.seed, recipe.control, recipe.preset) == ("toy", 3, True, "quick")


def test_a_curriculum_node_becomes_its_stages(edited):
    stages = Path(edited("seed: 3", "seed: 4")).read_text().split("stages:\n")[1].split("control:")[0]
    curriculum = (
        "  _target_: compresskit.distill.curricula.progressive\n  matches: ['1', .]\n  tasks: [{loss: l1}]\n"
        "  steps: [3, 4]\n  clip: 0.5\n"
    )
    recipe = load_recipe(edited(stages, curriculum))
    assert [stage.steps for stage in recipe.stages] == [3, 4]
    assert [len(stage.matches) for stage in recipe.stages] == [1, 2]
    assert all(stage.clip == 0.5 for stage in recipe.stages)


def test_the_order_is_file_then_preset_then_changes(toy):
    assert load_recipe(toy).stages[0].steps == 4
    assert load_recipe(toy, "longer").stages[0].steps == 8
    assert load_recipe(toy, "longer", ["stages.0.steps=5"]).stages[0].steps == 5
    assert load_recipe(toy, "longer", {"stages.0.steps": 6}).stages[0].steps == 6


def test_without_a_preset_called_quick_the_file_is_used_unchanged(edited):
    assert load_recipe(edited("quick: {}", "brief: {stages.0.steps: 1}")).preset is None


@pytest.mark.parametrize("overrides", [(), ["stages.1.tasks.0.weight={schedule: linear, start: 1, end: 0}"]])
def test_a_resolved_recipe_is_a_recipe_again_and_the_same_one(toy, overrides):
    recipe = load_recipe(toy, "longer", overrides)
    again = Path("again.yaml")
    again.write_text(yaml.dump(recipe.resolved()))
    assert load_recipe(again).stages[0].optimizer == {"_target_": "torch.optim.AdamW", "lr": 1e-3}
    assert load_recipe(again).resolved() == recipe.resolved()


def test_a_target_may_be_a_reference_and_is_written_as_one(edited):
    recipe = load_recipe(edited("{loss: l1, weight: 1e-1}", "{loss: l1, target: torch.nn.functional.relu}"))
    assert recipe.resolved()["stages"][1]["tasks"][0]["target"] == "torch.nn.functional.relu"


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_every_shipped_recipe_loads_with_every_preset(name):
    for preset in load_recipe(name).presets:
        assert load_recipe(name, preset).stages


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed: 3", "sed: 3", "sed: unknown key; did you mean 'seed'?"),
        ("seed: 3", "seed: three", "seed must be a whole number of at least 0, got 'three'"),
        ("seed: 3", "name: y", "the key 'name' is here twice, first in line 1"),
        ("name: toy", "name: a/b", "name: it names the run's folder, so letters, digits"),
        ("seed: 3", "precision: fp61", "precision: unknown 'fp61'; did you mean 'fp16'"),
        ("control: true", "control: on", "control must be true or false, got 'on'"),
        (
            "steps: 4",
            "setps: 4",
            "stages[0]: unknown key 'setps'; did you mean 'steps'",
        ),
        (
            "steps: 4",
            "steps: ten",
            "stages[0]: stage 'features': steps must be a whole number of at least 1, got 'ten'",
        ),
        ("- name: features\n    steps", "- steps", "stages[0]: the key 'name' is missing"),
        (
            "- name: output\n    steps: 6",
            "- name: features\n    steps: 7",
            "stages[1]: stage 0 has the name 'features' already",
        ),
        (
            "clip: 1.0",
            "clip: -1",
            "stages[1]: stage 'output': clip must be a number above 0, got -1",
        ),
        (
            "train: upstream",
            "train: up",
            "stages[0]: stage 'features': train must be a list of globs",
        ),
        (
            '- {student: "1"',
            '- {studnet: "1"',
            "stages[0].matches[0]: the key 'student' is missing, got",
        ),
        (
            "weight: 0.5",
            "wieght: 0.5",
            "stages[0].matches[0]: unknown key 'wieght'; did you mean 'weight'?",
        ),
        ("weight: 0.5", "weight: heavy", "stages[0].matches[0]: weight must be a number"),
        ("loss: mse", "loss: mes", "stages[0].matches[0].loss: no loss 'mes'; did you mean 'mse'?"),
        (
            "loss: mse, weight",
            "loss: kl, temprature",
            "stages[0].matches[0]: unknown key 'temprature'; did you mean 'temperature'?",
        ),
        (
            "loss: mse, weight: 0.5",
            "loss: kl, temperature: hot",
            "stages[0].matches[0]: temperature must be a number, got 'hot'",
        ),
        (
            "weight: 0.5",
            "weight: {schedule: liner, start: 1, end: 0}",
            "stages[0].matches[0]: weight: unknown schedule 'liner'; did you mean 'linear'",
        ),
        ('matches: ["."]', "matches: .", "stages[1].matches: expected a list, got '.'"),
        ('student: "1"', 'student: "1@top"', "stages[0].matches[0]: student: "),
        (
            "torch.optim.SGD",
            "torch.optim.SDG",
            "stages[1].optimizer: torch.optim has no 'SDG'; did you mean 'SGD'",
        ),
        (
            "momentum: 0.9",
            "momentun: 0.9",
            "stages[1].optimizer: torch.optim.SGD has no option 'momentun'; did you mean 'momentum'?",
        ),
        ("lr: 1e-2", "lr: fast", "stages[1].optimizer: lr must be a number, got 'fast'"),
        (
            "warmup: 0.5",
            "warm_up: 0.5",
            "stages[1].scheduler: compresskit.schedules.WarmupCosine has no option 'warm_up'; did you mean 'warmup'?",
        ),
        (
            "in_features: 4, out_features: 16",
            "in_features: 4",
            "teacher._args_[1]: torch.nn.Linear needs the option 'out_features'",
        ),
        (
            "toy_parts.Centre",
            "toy_parts.Center",
            "teacher._args_[0]: toy_parts has no 'Center'; did you mean 'Centre'?",
        ),
        ("_target_: torch.nn.Sequential", "_target: torch.nn.Sequential", "teacher: expected a node"),
        ("batch_size: 8", "batch_size: 0", "data: batch_size must be a whole number of at least 1"),
        (
            "batch_size: 8",
            "batchsize: 8",
            "data: unknown key 'batchsize'; did you mean 'batch_size'?",
        ),
        ("data:\n  train: {_target_: toy_parts.Points}", "data:\n  workers: 0", "data: the key 'train' is missing"),
        ("count: 5", "count: few", "data.test: count must be a whole number, got 'few'"),
        (
            "tasks: [mse]",
            "matches: ['.']",
            "pretrain[0]: matches need a teacher, and here the teacher itself learns; use tasks",
        ),
        ("quick: {}", "quick: {stages.0.setps: 5}", "stages[0]: unknown key 'setps'; did you mean"),
        ("quick: {}", "quick: {stagse.0.steps: 5}", "the recipe has no 'stagse'; did you mean"),
        ("quick: {}", "quick: 5", "presets must be a mapping of names to mappings of paths"),
        ("student:\n", "spare: {}\nstudent:\n", "spare: unknown key"),
    ],
)
def test_a_mistake_in_a_recipe_is_reported_with_its_line_and_the_nearest_right_name(edited, old, new, message):
    recipe = edited(old, new)
    line = recipe.read_text()[: recipe.read_text().index(new)].count("\n") + 1
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe)
    assert str(caught.value).startswith(f"toy.yaml, line {line}: {message}")
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("stages.1.clip=0", "--set stages.1.clip=0: stages[1]: stage 'output': clip must be a number above 0, got 0"),
        ("teacher=", "toy.yaml, line 27: stages[0]: matches need a teacher, and this recipe has none; use tasks"),
        ("student.weights=3", "--set student.weights=3: student: weights must be a path, or PACKAGE:NAME, got 3"),
        ("stages=", "--set stages=: stages: expected a list of stages or a curriculum node with _target_, got None"),
        (
            "stages={_target_: compresskit.curricula.progresive}",
            "--set stages={_target_: compresskit.curricula.progresive}: stages: compresskit.distill.curricula has no "
            "'progresive'; did you mean 'progressive'?",
        ),
        (
            "stages={_target_: compresskit.curricula.progressive, matches: [.], setps: 3}",
            "--set stages={_target_: compresskit.curricula.progressive, matches: [.], setps: 3}: stages: unknown key "
            "'setps'; did you mean 'steps'",
        ),
    ],
)
def test_a_mistake_in_a_change_is_reported_with_the_change(toy, changes, message):
    with pytest.raises(RecipeError) as caught:
        load_recipe(toy, overrides=[changes])
    assert str(caught.value).startswith(message)


def test_a_control_needs_something_to_learn_from(edited):
    with pytest.raises(
        RecipeError, match=r"line 36: control: no stage has tasks of the student, so a student alone would have noth"
    ):
        load_recipe(edited("tasks: [{loss: l1, weight: 1e-1}]", "freeze: []"))


def test_an_unknown_preset_or_recipe_is_reported_with_the_known_ones(toy):
    with pytest.raises(RecipeError, match="no preset 'longr'; did you mean 'longer'"):
        load_recipe(toy, "longr")
    with pytest.raises(RecipeError, match=r"no recipe 'nope\.yaml'; "):
        load_recipe("nope.yaml")
    with pytest.raises(RecipeError, match=r"\. is a folder; a recipe is a YAML file, such as toy\.yaml"):
        load_recipe(".")


@pytest.mark.parametrize("text", ["", "- a list", "just text", "# nothing"])
def test_a_file_without_a_mapping_is_refused(text, tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match="a recipe is a mapping with the keys student, data and stages"):
        load_recipe(path)
