"""The shipped recipes of classifiers, with few steps, from the first step to the table."""

import json
from pathlib import Path

import pytest

from compresskit.recipe.reading.load import load_recipe
from compresskit.recipe.running.run import run_recipe

FEW = {"pretrain.0.steps": 2, "stages.0.steps": 2, "stages.1.steps": 2}


def _vit_macs(depth, width, hidden):
    tokens, patch = 5, 3 * 4 * 4  # four patches and the class token
    attention = 4 * width**2 * tokens + 2 * tokens**2 * width
    perceptron = 2 * width * hidden * tokens
    return depth * (attention + perceptron) + 4 * patch * width + 10 * width


def _plain_macs(width):
    return 9 * (64 * width + 16 * width * 2 * width + 4 * 2 * width * 4 * width) + 4 * width * 10


@pytest.mark.parametrize(("name", "macs"), [("digits", _plain_macs(8)), ("digits_vit", _vit_macs(2, 16, 32))])
def test_a_recipe_runs_to_its_table(name, macs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run_recipe(name, overrides=FEW)
    rows = json.loads(Path(f"runs/{name}/summary.json").read_text())
    assert [row["role"] for row in rows] == ["teacher", "alone", "distilled"]
    assert rows[2]["macs"] == macs
    assert all(0 <= row["accuracy"] <= 100 and row["cross_entropy"] > 0 for row in rows)
    assert "ACCURACY (%)" in str(result)
    assert "percentage points on average" in str(result)
    card = Path(f"runs/{name}/card.md").read_text()
    assert "CROSS-ENTROPY (nats)" in card
    assert "sample 1" not in card  # 600 test images are counted, not listed
    assert Path(f"runs/{name}/images/mistakes.png").exists()


@pytest.mark.parametrize("name", ["digits", "digits_vit"])
def test_the_control_takes_as_many_steps_and_tests_on_no_training_image(name):
    recipe = load_recipe(name)
    assert recipe.control
    assert (recipe.data["train"]["split"], recipe.data["test"]["split"]) == ("train", "test")
    assert "seed" not in {**recipe.data["train"], **recipe.data["test"]}  # one split for both, whatever the run's seed
