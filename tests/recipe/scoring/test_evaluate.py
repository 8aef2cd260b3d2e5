import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from compresskit import cli
from compresskit.errors import CheckpointError, RecipeError
from compresskit.recipe.running.run import run_recipe
from compresskit.recipe.scoring.bootstrap import interval
from compresskit.recipe.scoring.evaluate import evaluate_recipe

MORE = '''

class Stored(Points):
    """Points from one of two folders, with a limit."""

    def __init__(self, folder: str, limit: int | None = None):
        super().__init__(count=6, seed={"here": 9, "there": 5}[folder])
        self.names = [f"point {number}" for number in range(6)][:limit]
        self.count = 6 if limit is None else limit


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, points):
        return self.factor * points[:, :3]


class Centred(nn.Sequential):
    def __init__(self):
        super().__init__(Centre(), Times(0.0))


class Scaled(Evaluation):
    """Two conditions, more methods than baselines, and a sheet."""

    lower_is_better = ("error",)

    def __init__(self, dataset, factor: float = 1.0):
        super().__init__(dataset)
        self.factor = factor
        self.methods = {"one": lambda: Times(1.0), "two": lambda: Times(2.0), "centred": Centred}

    def conditions(self):
        return {"plain": self, "large": Scaled(self.dataset, 10.0)}

    def per_sample(self, model):
        values = [float(model(self.factor * self.dataset[i][0][None]).mean()) for i in range(len(self.dataset))]
        return {"value": values, "error": [abs(value) for value in values]}

    def draw_worst(self, models, path):
        path.write_text(" ".join(models))
'''


@pytest.fixture
def scaled(edited):
    path = edited(
        "test: {_target_: toy_parts.Points, count: 5, seed: 9}\n  batch_size: 8",
        "test: {_target_: toy_parts.Stored, folder: here}\n  batch_size: 8",
    )
    path.write_text(path.read_text().replace("toy_parts.Evaluation}", "toy_parts.Scaled}"))
    Path("toy_parts.py").write_text(Path("toy_parts.py").read_text() + MORE)
    return path


def test_methods_are_compared_under_every_condition(scaled):
    result = evaluate_recipe(scaled, methods=["two", "one"], out="out")
    assert list(result.conditions()) == ["plain", "large"]
    means = {(score.condition, score.method): score.mean(score.columns[0]) for score in result.scores}
    assert means["plain", "two"] == pytest.approx(2 * means["plain", "one"])
    assert means["large", "one"] == pytest.approx(10 * means["plain", "one"])
    stored = json.loads(Path("out/evaluation.json").read_text())
    assert stored["samples"] == [f"point {number}" for number in range(6)]
    assert stored["conditions"]["large"]["two"]["value"]["mean"] == pytest.approx(means["large", "two"])
    assert len(stored["conditions"]["plain"]["one"]["error"]["each"]) == 6
    assert stored["recipe"]["name"] == "toy"
    assert stored["environment"]["python"]
    assert Path("out/worst.png").read_text() == "two one"


def test_tables_have_intervals_and_paired_differences(scaled):
    result = evaluate_recipe(scaled, methods=["two", "one"], out="out")
    score, other = result.conditions()["plain"]
    values = zip(other.per_sample["value"], score.per_sample["value"], strict=True)
    paired = [one - two for one, two in values]
    markdown = Path("out/evaluation.md").read_text()
    assert markdown == result.markdown()
    assert "## plain, 6 samples\n\n|  | VALUE | ERROR | minus two |" in markdown
    assert f"| {sum(paired) / 6:+.4f} [" in markdown
    assert f"| point 3 | {score.per_sample['value'][3]:.4f} | {other.per_sample['value'][3]:.4f} |" in markdown
    ends = interval(paired)
    assert f"{sum(paired) / 6:+.4f} ± {(ends[1] - ends[0]) / 2:.4f}" in str(result)
    low, high = other.figures()["value"]["interval"]
    assert low < other.mean(other.columns[0]) < high
    assert "plain, 6 samples" in str(result)
    assert "All of it is in out" in str(result)


def test_the_folder_of_a_run_has_its_own_weights(toy):
    run = run_recipe(toy, out="run")
    result = evaluate_recipe("run", out="out")
    rows = {row.name: row.per_sample["score"] for row in run.rows}
    scores = {score.method: score.per_sample["score"] for score in result.scores}
    assert list(scores) == ["student", "zero"]
    assert scores["student"] == pytest.approx(rows["student distilled"])
    assert scores["zero"] == pytest.approx(rows["zero"])
    both = evaluate_recipe("run", methods=["teacher", "student"], out="both")
    assert both.scores[0].per_sample["score"] == pytest.approx(rows["teacher"])


def test_the_weights_of_a_file_are_measured(toy):
    weights = {"0.mean": torch.zeros(4), "1.weight": torch.zeros(8, 4), "1.bias": torch.zeros(8)}
    weights |= {"3.weight": torch.zeros(3, 8), "3.bias": torch.zeros(3)}
    save_file(weights, "student.safetensors")
    result = evaluate_recipe(toy, "student.safetensors", methods=["student", "zero"], out="out")
    student, zero = result.scores
    assert student.per_sample == zero.per_sample


def test_a_method_in_closed_form_is_fitted_to_the_training_data(scaled):
    result = evaluate_recipe(scaled, methods=["centred"], out="out")
    assert result.scores[0].per_sample["value"] == [0.0] * 6  # without a fit it would be nan


def test_other_data_and_a_limit_change_the_test_data(scaled):
    here, there, few = (
        evaluate_recipe(scaled, methods=["one"], out=out, data=data, limit=limit).scores[0].per_sample["value"]
        for out, data, limit in (("a", None, None), ("b", "there", None), ("c", "there", 2))
    )
    assert here != there
    assert few == there[:2]


def test_the_folder_is_the_next_free_one(scaled):
    folders = [evaluate_recipe(scaled, methods=["one"]).folder for _ in range(2)]
    assert folders == [Path("evaluations/toy"), Path("evaluations/toy-2")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["too"]}, "--methods: there is no method 'too'; did you mean 'two'"),
        ({}, "student: it has no weights; add --weights FILE, or leave it out of --methods"),
        (
            {"methods": ["teacher"]},
            "teacher: it has no weights; add --set teacher.weights=FILE, or leave it out of --methods",
        ),
        ({"methods": ["one"], "out": "."}, ". is used already; give another --out"),
        ({"overrides": ["evaluate=null"]}, "this recipe has no evaluation"),
        ({"overrides": ["data.test=null"], "limit": 2}, "has no 'test', so there is nothing that --data and --limit"),
        (
            {"overrides": ["data.test={_target_: toy_parts.Points}"], "limit": 2},
            "toy_parts.Points has no option 'limit', so --limit cannot be used",
        ),
    ],
)
def test_an_impossible_evaluation_is_refused_and_nothing_is_written(scaled, options, message):
    with pytest.raises(RecipeError) as caught:
        evaluate_recipe(scaled, **options)
    assert message in str(caught.value)
    assert not Path("evaluations").exists()


def test_a_missing_file_of_weights_is_named(scaled):
    with pytest.raises(CheckpointError, match=r"no file 'nope\.safetensors'"):
        evaluate_recipe(scaled, "nope.safetensors")


def test_an_evaluation_without_values_per_sample_gives_its_means(edited):
    path = edited("toy_parts.Evaluation}", "toy_parts.Whole}")
    whole = "\n\nclass Whole:\n    def __call__(self, model):\n        return {'score': 3.0}\n"
    Path("toy_parts.py").write_text(Path("toy_parts.py").read_text() + whole)
    run_recipe(path, out="run")
    result = evaluate_recipe("run", out="out")
    assert [(score.method, score.figures()["score"]["mean"]) for score in result.scores] == [("student", 3.0)]
    assert "1 sample" in str(result)


def test_the_command_prints_the_tables(scaled, capsys):
    arguments = ["evaluate", str(scaled), "--methods", "two, one", "--limit", "3", "--out", "out"]
    assert cli.main([*arguments, "--allow", "toy_parts"]) == 0
    out, err = capsys.readouterr()
    assert "plain, 3 samples" in out
    assert "evaluating one, large" in err
    assert cli.main([*arguments, "--allow", "toy_parts"]) == 2
    assert capsys.readouterr().err == "compresskit: out is used already; give another --out\n"
