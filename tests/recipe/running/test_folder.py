from pathlib import Path

import pytest

from compresskit import nodes
from compresskit.errors import CheckpointError
from compresskit.recipe.reading import yaml
from compresskit.recipe.reading.load import load_recipe
from compresskit.recipe.running.folder import choose_folder
from compresskit.recipe.running.run import run_recipe


def test_a_new_run_takes_the_next_free_number(toy):
    recipe = load_recipe(toy)
    assert choose_folder(recipe, None, resume=False) == Path("runs/toy")
    for name in ("toy", "toy-2", "toy-9", "toy-extra", "toyish"):
        Path("runs", name).mkdir(parents=True)
    assert choose_folder(recipe, None, resume=False) == Path("runs/toy-10")


def test_resume_without_a_folder_takes_the_newest_run_of_this_recipe(toy):
    brief = ["control=false", "pretrain="]
    for overrides in (brief, brief, [*brief, "seed=4"]):
        run_recipe(toy, overrides=overrides)
    assert choose_folder(load_recipe(toy, overrides=brief), None, resume=True) == Path("runs/toy-2")
    assert choose_folder(load_recipe(toy, overrides=[*brief, "seed=4"]), None, resume=True) == Path("runs/toy-3")
    with pytest.raises(CheckpointError, match=r"toy-3 holds another recipe's run: seed is 4 there and 5 here"):
        choose_folder(load_recipe(toy, overrides=[*brief, "seed=5"]), None, resume=True)


def test_a_used_folder_is_refused_and_not_changed(toy, files):
    Path("used").mkdir()
    Path("used/thesis.txt").write_text("precious")
    with pytest.raises(
        CheckpointError, match="used is used already: add --resume to go on with the run in it, or give"
    ):
        run_recipe(toy, out="used")
    with pytest.raises(CheckpointError, match="used holds no run that could be continued"):
        run_recipe(toy, out="used", resume=True)
    with pytest.raises(CheckpointError, match=r"toy\.yaml is used already"):
        run_recipe(toy, out="toy.yaml")
    assert files("used") == {"thesis.txt"}


def test_resume_without_a_run_is_refused(toy):
    with pytest.raises(
        CheckpointError, match="nowhere does not exist, so there is no run to go on with; start it with"
    ):
        run_recipe(toy, out="nowhere", resume=True)
    with pytest.raises(CheckpointError, match="there is no run in runs/toy to go on with; start it without --resume"):
        run_recipe(toy, resume=True)


def test_another_recipes_folder_is_refused_with_the_first_difference(toy, files):
    run_recipe(toy, out="x", overrides=["control=false"])
    before = {name: (Path("x") / name).read_bytes() for name in files("x")}
    with pytest.raises(CheckpointError, match=r"x holds another recipe's run: stages\[1\].steps is 6 there and 7 here"):
        run_recipe(toy, out="x", overrides=["control=false", "stages.1.steps=7"], resume=True)
    assert {name: (Path("x") / name).read_bytes() for name in files("x")} == before


def test_a_recipe_with_a_former_name_is_still_the_same_recipe(toy):
    recipe = load_recipe(toy)
    name, former = "compresskit.schedules.WarmupCosine", "compresskit.distill.schedules.WarmupCosine"
    text = yaml.dump(recipe.resolved())
    assert name in text
    Path("x").mkdir()
    Path("x/recipe.yaml").write_text(text.replace(name, former))
    assert choose_folder(recipe, "x", resume=True) == Path("x")
    Path("x/recipe.yaml").write_text(text.replace(name, "torch.optim.lr_scheduler.OneCycleLR"))
    with pytest.raises(CheckpointError, match=r"stages\[1\].scheduler._target_ is 'torch.optim.*OneCycleLR' there and"):
        choose_folder(recipe, "x", resume=True)


def test_every_former_name_is_still_the_same_object():
    for former, name in nodes.FORMER_NAMES.items():
        assert nodes.find(former, kind="scheduler") is nodes.find(name, kind="scheduler")
