"""Recipes with a cache, precision, layout and compilation, and the trace of a run."""

import gzip
import json
import re
from pathlib import Path

import pytest

from compresskit.cli import main
from compresskit.distill.timing import Clock, shares_text
from compresskit.distill.training import autotune
from compresskit.errors import RecipeError
from compresskit.recipe.reading import yaml
from compresskit.recipe.reading.load import load_recipe
from compresskit.recipe.running.run import run_recipe


def steps(folder):
    return [json.loads(line)["terms"] for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def repeated(edited):
    """The toy recipe, whose points are the same in every epoch."""
    parts = Path("toy_parts.py")
    text = parts.read_text().replace('getattr(index, "epoch", 0)', "0")
    parts.write_text(
        text.replace("    def __init__(self, count", "    variants = 1\n\n    def __init__(self, count", 1)
    )
    return edited("seed: 3", "seed: 3\ncache: {budget: 1MB}")


def test_a_cache_in_a_recipe_changes_no_number_and_reports_its_share(repeated, capsys):
    run_recipe(repeated, out="cached")
    stderr = capsys.readouterr().err
    run_recipe(repeated, out="plain", overrides=["cache=null"])
    assert steps("cached") == steps("plain")
    share = re.search(r"stage output: cache: (\d+)% of 6 batches of teacher recalled", stderr)
    assert int(share[1]) >= 17  # the stage begins inside an epoch; its last batch at least has been seen whole
    assert "where the time went: load" in stderr
    assert "cache: " in Path("cached/recipe.yaml").read_text()


def test_an_impossible_cache_is_refused_before_anything_is_trained(edited):
    with pytest.raises(RecipeError, match=r"toy\.yaml, line 2: cache: unknown key 'bugdet'; did you mean 'budget'"):
        load_recipe(edited("seed: 3", "cache: {budget: 1MB, bugdet: 2MB}"))
    with pytest.raises(RecipeError, match="cache: Points does not say after how many epochs"):
        run_recipe(edited("seed: 3", "cache: {budget: 1MB}"), out="refused")
    assert not Path("refused/teacher").exists()


def test_a_budget_that_is_too_small_is_refused_before_the_teacher_is_trained_and_by_a_dry_run(repeated):
    small = ["cache.budget=10B", "cache.folder=entries"]
    with pytest.raises(RecipeError, match=r"stage 'features' needs .* and the budget is 10 B"):
        run_recipe(repeated, overrides=small, dry_run=True)
    assert not Path("entries").exists()
    with pytest.raises(RecipeError, match="the budget is 10 B"):
        run_recipe(repeated, overrides=small, out="refused")
    assert not Path("refused/teacher").exists()


def test_the_choice_of_auto_is_in_the_runs_recipe_and_resume_keeps_it(edited, monkeypatch, capsys):
    monkeypatch.setattr(autotune, "_compared", lambda *_: [1.0, 0.5])
    recipe = edited("seed: 3", "seed: 3\nprecision: auto")
    run_recipe(recipe, out="measured")
    assert "auto: precision bf16: 2.00 x as fast, taken" in capsys.readouterr().err
    assert yaml.read(Path("measured/recipe.yaml")).data["precision"] == "bf16"
    run_recipe(recipe, out="stated", overrides=["precision=bf16"])
    assert steps("measured") == steps("stated")
    (Path("measured") / "summary.json").unlink()
    monkeypatch.setattr(autotune, "_compared", lambda *_: pytest.fail("measured again"))
    run_recipe(recipe, out="measured", resume=True)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_trace_shows_whole_steps_of_short_stages_too(toy, steps):
    run_recipe(toy, out="traced", trace=True, overrides=[f"stages.1.steps={steps}", "control=false"])
    with gzip.open("traced/trace/2.json.gz", "rt") as file:
        names = [event.get("name") for event in json.load(file)["traceEvents"]]
    assert names.count("optimizer") == min(steps, 3)


def test_shares_are_shown_in_percentages_that_add_up_to_100():
    thirds = {"load": 1 / 3, "student": 1 / 3, "other": 1 / 3}
    assert shares_text(thirds) == "load 34%, student 33%, other 33%"
    assert shares_text({"load": 0.004, "student": 0.996, "other": 0.0}) == "load 0%, student 100%, other 0%"


def test_the_profilers_own_time_is_in_no_share():
    clock = Clock()
    clock.seconds |= {"load": 1.0, "student": 2.0}
    clock.uncounted = 5.0
    shares = clock.shares(9.0)
    assert (shares["load"], shares["student"], shares["other"]) == (0.25, 0.5, 0.25)


def test_a_trace_shows_the_phases_of_a_few_steps(toy):
    assert main(["run", str(toy), "--out", "traced", "--trace", "--allow", "toy_parts"]) == 0
    traces = sorted(str(path.relative_to("traced")) for path in Path("traced").rglob("*.json.gz"))
    assert traces == ["alone/trace/1.json.gz", "alone/trace/2.json.gz", "teacher/trace/1.json.gz", *traces[3:]]
    assert traces[3:] == ["trace/1.json.gz", "trace/2.json.gz"]
    with gzip.open("traced/trace/2.json.gz", "rt") as file:
        names = [event.get("name") for event in json.load(file)["traceEvents"]]
    for phase in ("load", "teacher", "student", "losses", "backward", "optimizer"):
        assert phase in names
