"""The line that an error's path leads to, whatever its message says."""

import pytest

from compresskit.errors import DataError, RecipeError, TapError, TrainingError, at, within
from compresskit.recipe.reading.load import load_recipe
from compresskit.recipe.reading.locations import SourceMap
from compresskit.recipe.reading.yaml import Document
from compresskit.recipe.running.run import run_recipe

TEXT = """\
seed: 3
student: {weights: x.pt}
stages:
  - name: features
    train: [head.*]
    matches:
      - {student: conv1}
      - student: big:conv2@in[0]
        loss: mse
  - name: output
    matches: [conv1]
presets:
  quick: {seed: 4}
"""


@pytest.fixture
def sources():
    return SourceMap.of(Document(TEXT, "x.yaml"))


def _located(sources, error, *blocks, always=False):
    with pytest.raises(type(error)) as caught, sources.with_locations(always=always):
        _enter(list(blocks), error)
    return str(caught.value)


def _enter(blocks, error):
    if not blocks:
        raise error
    with blocks[0]:
        _enter(blocks[1:], error)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("seed",), 1),
        (("student", "weights"), 2),
        (("stages", 0), 4),
        (("stages", 0, "train", 0), 5),
        (("stages", 0, "matches", 1, "loss"), 9),
        (("stages", 0, "matches", 1, "weight"), 8),  # not written: the match itself
        (("stages", 1, "steps"), 10),
    ],
)
def test_a_path_leads_to_its_line_or_to_that_of_the_nearest_part_around_it(sources, path, line):
    assert _located(sources, RecipeError("any words at all", path=path)) == f"x.yaml, line {line}: any words at all"


def test_the_place_that_callers_add_is_shown(sources):
    error = RecipeError("unknown key 'los'", path=("los",))
    assert _located(sources, error, at("stages", 1)) == "x.yaml, line 10: stages[1]: unknown key 'los'"


@pytest.mark.parametrize(
    ("about", "place"),
    [
        (("conv2@in[0]",), "x.yaml, line 8: stages[0].matches[1].student: "),  # an address without its model's name
        (("conv1",), "x.yaml, line 7: stages[0].matches[0].student: "),
        (("conv1", "output"), "x.yaml, line 11: stages[1].matches[0]: "),
        (("head.*", "features"), "x.yaml, line 5: stages[0].train[0]: "),
        (("features",), "x.yaml, line 4: stages[0]: "),
        (("conv1", "a curriculum's stage"), "x.yaml, line 7: stages[0].matches[0].student: "),
        (("nowhere",), ""),
    ],
)
def test_an_error_of_the_engine_leads_to_the_users_text_inside_its_stage(sources, about, place):
    assert _located(sources, TapError("any words", about=about)) == f"{place}any words"


def test_a_title_moves_no_line(sources):
    error = RecipeError("clip must be above 0", path=("clip",))
    text = _located(sources, error, within("stage 'features'", about="features"))
    assert text == "x.yaml, line 4: stages[0]: stage 'features': clip must be above 0"


def test_without_a_place_the_file_is_named_only_on_request(sources):
    assert _located(sources, DataError("the folder is empty")) == "the folder is empty"
    assert _located(sources, DataError("the folder is empty"), always=True) == "x.yaml: the folder is empty"


def test_a_message_is_located_once(sources):
    error = RecipeError("is wrong", path=("seed",))
    assert _located(sources, error, sources.with_locations(always=True), always=True) == "x.yaml, line 1: is wrong"


def test_a_failed_run_is_not_located(sources):
    assert _located(sources, TrainingError("stage 'features': nan", about=("features",))) == "stage 'features': nan"


def test_a_replaced_part_comes_from_elsewhere_with_all_inside_it(sources):
    sources.replace(("stages", 0), {"name": "new", "matches": ["conv9"]}, "--set stages.0={…}")
    assert _located(sources, RecipeError("no", path=("stages", 0, "train"))) == "--set stages.0={…}: no"
    assert _located(sources, TapError("no", about=("conv9",))) == "--set stages.0={…}: stages[0].matches[0]: no"
    assert _located(sources, TapError("no", about=("conv2@in[0]",))) == "no"


def test_an_address_in_a_curriculum_is_located_when_its_stages_are_traced(edited):
    stages = "stages:\n" + "  - name: features" + edited("seed: 3", "seed: 4").read_text().split("- name: features")[1]
    stages = stages.split("control:")[0]
    curriculum = (
        "stages:\n  _target_: compresskit.curricula.progressive\n  matches:\n    - '1'\n    - '11'\n"
        "  tasks: [l1]\n  steps: 2\n"
    )
    recipe = edited(stages, curriculum)
    line = recipe.read_text().splitlines().index("    - '11'") + 1
    with pytest.raises(
        TapError, match=rf"^toy\.yaml, line {line}: stages\.matches\[1\]: Sequential has no module '11'"
    ):
        run_recipe(recipe, dry_run=True)


def test_a_mistake_of_a_curriculum_is_located_at_its_key(edited):
    recipe = edited(
        "  - {name: fit, steps: 6, tasks: [mse]}", "  _target_: compresskit.curricula.in_turn\n  tasks: []\n  steps: 1"
    )
    line = recipe.read_text().splitlines().index("  tasks: []") + 1
    with pytest.raises(RecipeError, match=rf"^toy\.yaml, line {line}: pretrain: tasks: in_turn needs at least one"):
        load_recipe(recipe)
