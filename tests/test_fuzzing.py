import sys

import pytest

from tests import fuzzing


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fuzzing.prepare(tmp_path)
    yield
    assert "evil" not in sys.modules


@pytest.mark.timeout(200)
def test_a_mutated_recipe_or_command_ends_in_a_plan_or_in_a_short_message():
    tried, faults = fuzzing.fuzz(1, examples=500, seconds=40)
    assert tried > 20
    assert faults == {}


@pytest.mark.parametrize("recipe", fuzzing.RECIPES)
def test_the_recipes_are_right_before_they_are_mutated(recipe, capsys):
    assert fuzzing.dry_run(recipe) == 0, capsys.readouterr().err
