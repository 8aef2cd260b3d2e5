import pytest

from compresskit.errors import RecipeError
from compresskit.recipe.reading.overrides import apply, parse

TREE = {"seed": 1, "stages": [{"steps": 5}, {"steps": 6, "optimizer": {"lr": 0.1}}]}


def _set(text, tree=TREE, known=("seed", "stages", "control", "cache")):
    return apply(tree, [(f"--set {text}", *parse(text))], known)


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("seed=2", {**TREE, "seed": 2}),
        ("control=true", {**TREE, "control": True}),
        ("cache.budget=8GB", {**TREE, "cache": {"budget": "8GB"}}),
        ("stages.0.steps=50", {**TREE, "stages": [{"steps": 50}, TREE["stages"][1]]}),
        ("stages[0].steps=50", {**TREE, "stages": [{"steps": 50}, TREE["stages"][1]]}),
        ("stages.0.train=[a, b]", {**TREE, "stages": [{"steps": 5, "train": ["a", "b"]}, TREE["stages"][1]]}),
        ("stages.1.optimizer.lr=1e-3", {**TREE, "stages": [{"steps": 5}, {"steps": 6, "optimizer": {"lr": 0.001}}]}),
        ("stages.1.optimizer=", {**TREE, "stages": [{"steps": 5}, {"steps": 6, "optimizer": None}]}),
        ("stages.1={name: x=y}", {**TREE, "stages": [{"steps": 5}, {"name": "x=y"}]}),
    ],
)
def test_a_path_sets_one_value_and_the_value_is_yaml(text, changed):
    assert _set(text) == changed


def test_changes_are_made_to_a_copy_of_the_recipe():
    before = {"stages": [{"steps": 5}]}
    value = {"nested": [1]}
    changed = apply(before, [("here", "stages.0", value)], ["stages"])
    changed["stages"][0]["nested"].append(2)
    assert before == {"stages": [{"steps": 5}]}
    assert value == {"nested": [1]}


def test_later_changes_apply_on_top_of_earlier_ones():
    changes = [("a", "stages.0", {"steps": 1}), ("b", "stages.0.steps", 2)]
    assert apply(TREE, changes, ["stages"])["stages"][0] == {"steps": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stagse.0.steps=1", "the recipe has no 'stagse'; did you mean 'stages'?"),
        ("sede=1", "the recipe has no 'sede'; did you mean 'seed'?"),
        ("contrl=true", "the recipe has no 'contrl'; did you mean 'control'?"),
        ("stages.1.optimiser.lr=1", "'stages[1]' has no 'optimiser'; did you mean 'optimizer'?"),
        ("stages.2.steps=1", "'stages' is a list with entries 0 to 1, got '2'"),
        ("stages.-1.steps=1", "'stages' is a list with entries 0 to 1, got '-1'"),
        ("stages.first=1", "'stages' is a list with entries 0 to 1, got 'first'"),
        ("seed.x=1", "'seed' is 1, which has nothing inside to set"),
        ("stages.0.=1", "'stages[0]' has no ''"),
    ],
)
def test_a_path_that_leads_nowhere_is_reported_with_the_nearest_key(text, message):
    with pytest.raises(RecipeError) as caught:
        _set(text)
    assert str(caught.value).startswith(f"--set {text}: {message}")


@pytest.mark.parametrize("text", ["seed", "=3", " =3"])
def test_a_change_without_path_or_value_is_refused(text):
    with pytest.raises(RecipeError, match="expected PATH=VALUE, such as"):
        parse(text)


def test_a_value_that_is_not_yaml_is_refused():
    with pytest.raises(RecipeError, match=r"--set seed=\[1, line 1: this is not YAML"):
        parse("seed=[1")
