import json
from pathlib import Path
from statistics import fmean, stdev

import pytest

from compresskit.errors import CheckpointError, RecipeError
from compresskit.recipe.running import run as running
from compresskit.recipe.running.run import run_recipe
from compresskit.recipe.running.seeds import read_seeds, run_seeds

SHORT = ["pretrain=", "stages.0.steps=1", "stages.1.steps=2"]


def _scores(folder, role):
    rows = json.loads((Path(folder) / "summary.json").read_text())
    return next(row["score"] for row in rows if row["role"] == role)


def _summary(folder):
    rows = json.loads((Path(folder) / "summary.json").read_text())
    return {row["role"]: row for row in rows}


def test_each_seed_is_a_run_of_its_own_and_the_table_is_over_them(toy):
    result = run_seeds(toy, [0, 2], overrides=SHORT)
    assert result.folder == Path("runs/toy-seeds")
    single = run_recipe(toy, overrides=[*SHORT, "seed=2"], out="single")
    assert [row.metrics for row in result.runs[2].rows] == [row.metrics for row in single.rows]

    rows = _summary("runs/toy-seeds")
    for role in ("baseline", "teacher", "alone", "distilled"):
        each = [_scores(f"runs/toy-seeds/seed-{seed}", role) for seed in (0, 2)]
        assert rows[role]["score"] == pytest.approx(fmean(each))
        assert rows[role]["std"]["score"] == pytest.approx(stdev(each))
        assert rows[role]["per_seed"]["score"] == each
        assert rows[role]["seeds"] == [0, 2]


def test_the_difference_to_the_student_alone_is_taken_seed_by_seed(toy):
    text = str(run_seeds(toy, [0, 1, 2], overrides=SHORT))
    pairs = [[_scores(f"runs/toy-seeds/seed-{seed}", role) for role in ("distilled", "alone")] for seed in range(3)]
    each = [distilled - alone for distilled, alone in pairs]
    (difference,) = [d for d in _summary("runs/toy-seeds")["distilled"]["minus"] if d["than"] == "student alone"]
    assert difference["each"] == pytest.approx(each)
    assert difference["mean"] == pytest.approx(fmean(each))
    assert difference["better"] == sum(value > 0 for value in each)
    assert "Mean ± standard deviation over seeds 0, 1 and 2" in text
    assert f"student distilled minus student alone: {fmean(each):+.4f} score on average" in text
    assert f"better on {difference['better']} of 3" in text


def test_one_seed_has_no_spread(toy):
    result = run_seeds(toy, [7], overrides=SHORT)
    assert "Mean over seed 7" in str(result)
    assert "±" not in str(result)
    assert _summary(result.folder)["alone"]["std"] == {}


def test_finished_seeds_are_only_read_and_further_ones_are_run(toy, monkeypatch, capsys):
    first = run_seeds(toy, [0, 1], overrides=SHORT)
    trained = []
    train = running._train
    monkeypatch.setattr(
        running, "_train", lambda run, **options: (trained.append(run.recipe.seed), train(run, **options))
    )
    more = run_seeds(toy, [0, 1, 2], overrides=SHORT, resume=True)
    assert trained == [2]
    assert more.folder == first.folder
    assert [row.metrics for row in more.runs[1].rows] == [row.metrics for row in first.runs[1].rows]
    assert "runs/toy-seeds/seed-0 is finished already" in capsys.readouterr().err


def test_a_stopped_run_resumes_with_all_seeds(toy, monkeypatch, capsys):
    whole = run_seeds(toy, [0, 1], overrides=SHORT, out="whole")
    train = running._train
    with monkeypatch.context() as broken:
        broken.setattr(
            running, "_train", lambda run, **options: _stop() if run.recipe.seed == 1 else train(run, **options)
        )
        with pytest.raises(KeyboardInterrupt):
            run_seeds(toy, [0, 1], overrides=SHORT, out="broken")
    stderr = capsys.readouterr().err
    assert stderr.count("To go on: ") == 1
    assert "--seeds 0,1 --out broken --resume" in stderr
    resumed = run_seeds(toy, [0, 1], overrides=SHORT, out="broken", resume=True)
    assert [row.metrics for row in resumed.rows] == [row.metrics for row in whole.rows]


def _stop():
    raise KeyboardInterrupt


def test_a_folder_of_seeds_and_a_single_runs_folder_are_not_taken_for_each_other(toy):
    run_seeds(toy, [0], overrides=SHORT, out="seeds")
    run_recipe(toy, overrides=SHORT, out="single")
    with pytest.raises(CheckpointError, match="seeds holds another recipe's run: name is 'toy-seeds' there"):
        run_recipe(toy, overrides=SHORT, out="seeds", resume=True)
    with pytest.raises(CheckpointError, match="single holds another recipe's run: name is 'toy' there"):
        run_seeds(toy, [0], overrides=SHORT, out="single", resume=True)
    with pytest.raises(CheckpointError, match="seeds is used already"):
        run_seeds(toy, [1], overrides=SHORT, out="seeds")
    assert {path.name for path in Path("seeds").iterdir()} == {"recipe.yaml", "seed-0", "summary.json"}


def test_seeds_are_read_from_the_command_line():
    assert read_seeds("0,1, 12") == [0, 1, 12]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0;1", "--seeds 0;1: expected whole numbers with commas between, such as 0,1,2"),
        ("", "--seeds : expected whole numbers with commas between, such as 0,1,2"),
        ("0,1,0", "seeds: expected different whole numbers from 0, such as 0,1,2, got 0, 1 and 0"),
        ("-1,2", "seeds: expected different whole numbers from 0, such as 0,1,2, got -1 and 2"),
    ],
)
def test_text_that_does_not_list_seeds_is_refused(text, message):
    with pytest.raises(RecipeError) as error:
        read_seeds(text)
    assert str(error.value) == message


@pytest.mark.parametrize("overrides", [["seed=4"], {"seed": 4}])
def test_a_seed_in_the_changes_is_refused_beside_several_seeds(toy, overrides):
    with pytest.raises(RecipeError, match="seed: it is set and several seeds are given as well; leave one of them out"):
        run_seeds(toy, [0, 1], overrides=overrides)
    assert not Path("runs").exists()
