import json
from pathlib import Path

import pytest

from compresskit.distill.training.loop import StageLoop
from compresskit.errors import CheckpointError, DataError, RecipeError, ShapeError, TapError, TrainingError
from compresskit.recipe.building.closed_form import fit_to_data
from compresskit.recipe.building.components import build_components
from compresskit.recipe.reading.load import load_recipe
from compresskit.recipe.running import run as running
from compresskit.recipe.running.run import run_recipe


def test_a_run_writes_all_its_files(toy, files):
    result = run_recipe(toy)
    assert result.folder == Path("runs/toy")
    names = {name for name in files("runs/toy") if "checkpoints" not in name}
    assert names == {
        "recipe.yaml",
        "environment.json",
        "fitted.safetensors",
        "metrics.jsonl",
        "student.safetensors",
        "teacher/metrics.jsonl",
        "teacher/student.safetensors",
        "alone/metrics.jsonl",
        "alone/student.safetensors",
        "evaluation.json",
        "images/models.txt",
        "card.md",
        "summary.json",
    }
    rows = json.loads(Path("runs/toy/summary.json").read_text())
    assert [(row["name"], row["role"]) for row in rows] == [
        ("zero", "baseline"),
        ("teacher", "teacher"),
        ("student alone", "alone"),
        ("student distilled", "distilled"),
    ]
    assert rows[3]["macs"] == 4 * 8 + 8 * 3
    assert rows[3]["parameters"] == 4 * 8 + 8 + 8 * 3 + 3
    assert all(isinstance(row["score"], float) for row in rows)
    assert "student distilled minus zero" in str(result)


def test_a_dry_run_shows_the_plan_of_each_part_and_writes_nothing(toy, files):
    before = files(".")
    text = str(run_recipe(toy, dry_run=True))
    assert {name for name in files(".") - before if "__pycache__" not in name} == set()
    for expected in ("Part 1 of 3: the teacher learns", "Part 3 of 3", "mse(1)", "8x16", "nothing was written"):
        assert expected in text


def test_the_control_is_the_same_student_from_the_same_weights_on_the_supervised_terms(toy, equal):
    recipe = load_recipe(toy)
    run = running._Run(recipe, None, "cpu")
    run.fit_closed_form()
    alone = run.distillers["alone"]
    assert equal(alone.student.state_dict(), run.components.student.state_dict())
    assert alone.student is not run.components.student
    assert [stage.steps for stage in alone.stages] == [stage.steps for stage in recipe.stages]
    assert [stage.matches for stage in alone.stages] == [(), ()]
    assert [stage.tasks for stage in alone.stages] == [recipe.stages[1].tasks] * 2


def test_the_teacher_of_the_student_is_the_one_that_was_trained(toy, weights):
    run_recipe(toy)
    initial = build_components(load_recipe(toy)).teachers["teacher"]
    assert initial is not None
    trained = weights("runs/toy", "teacher")
    assert not trained["1.weight"].equal(initial.state_dict()["1.weight"])


def test_a_resumed_run_loads_the_closed_form_solution(toy, monkeypatch):
    run_recipe(toy, out="x", overrides=["control=false"])
    Path("x/summary.json").unlink()
    monkeypatch.setattr(running, "fit_to_data", lambda *_: pytest.fail("solved again"))
    run_recipe(toy, out="x", overrides=["control=false"], resume=True)


def test_the_same_recipe_gives_the_same_weights_with_any_number_of_workers(toy, same_weights):
    run_recipe(toy, out="none", overrides=["control=false"])
    run_recipe(toy, out="two", overrides=["control=false", "data.workers=2"])
    assert same_weights("none", "two", parts=["teacher", "."])


@pytest.mark.parametrize("part", ["teacher", ".", "alone", "evaluation"])
def test_a_stopped_run_resumes_and_finished_parts_are_not_trained_again(toy, monkeypatch, part, capsys, same_weights):
    run_recipe(toy, out="undisturbed")
    with monkeypatch.context() as broken:
        if part == "evaluation":
            broken.setattr(running, "illustrate", _interrupt)
        else:
            broken.setattr("compresskit.distill.training.loop.StageLoop.train_step", _interrupt_in(part, 3))
        with pytest.raises(KeyboardInterrupt):
            run_recipe(toy, out="disturbed")
    assert "To go on: compresskit run toy.yaml --preset quick --allow toy_parts --out disturbed --resume" in (
        capsys.readouterr().err
    )
    trained = []
    monkeypatch.setattr("compresskit.distill.training.loop.StageLoop.train_step", _noted(trained))
    result = run_recipe(toy, out="disturbed", resume=True)
    parts = ["teacher", ".", "alone", "evaluation"]
    assert list(dict.fromkeys(trained)) == parts[parts.index(part) : 3]
    assert same_weights("undisturbed", "disturbed")
    assert Path("undisturbed/summary.json").read_text() == Path("disturbed/summary.json").read_text()
    assert len(json.loads(Path("disturbed/environment.json").read_text())) == 2
    assert result.folder == Path("disturbed")


def _interrupt(*_, **__):
    raise KeyboardInterrupt


def _interrupt_in(part, step):
    """An update of the loop that is interrupted in one part of the run, at one step."""
    update, seen = StageLoop.train_step, []

    def interrupted(loop, *arguments):
        seen.append(_part(loop))
        if seen[-1] == part and seen.count(part) == step:
            raise KeyboardInterrupt
        return update(loop, *arguments)

    return interrupted


def _noted(trained):
    """An update of the loop that notes which part of the run it belongs to."""
    update = StageLoop.train_step

    def noted(loop, *arguments):
        trained.append(_part(loop))
        return update(loop, *arguments)

    return noted


def _part(loop):
    return "teacher" if loop.stage.name == "fit" else "." if loop.stage.matches else "alone"


def test_resuming_a_finished_run_only_shows_its_result(toy, capsys, monkeypatch):
    first = run_recipe(toy)
    monkeypatch.setattr(running, "build_components", lambda *_: pytest.fail("built again"))
    assert str(run_recipe(toy, resume=True)) == str(first)
    assert "runs/toy is finished already" in capsys.readouterr().err


def test_a_folder_with_this_recipe_and_no_checkpoint_starts_again_and_says_so(toy, monkeypatch, capsys):
    with monkeypatch.context() as broken:
        broken.setattr(running, "_train", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_recipe(toy, out="x")
    run_recipe(toy, out="x", resume=True)
    assert "x has no checkpoint yet: starting again" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_skipped_and_two_are_an_error(toy, weights, equal):
    overrides = ["control=false"]
    run_recipe(toy, out="x", overrides=overrides)
    expected = weights("x")
    Path("x/summary.json").unlink()
    newest, older = sorted(Path("x/checkpoints").iterdir(), reverse=True)
    newest.write_bytes(newest.read_bytes()[:100])
    run_recipe(toy, out="x", overrides=overrides, resume=True)
    assert equal(weights("x"), expected)
    Path("x/summary.json").unlink()
    for path in Path("x/checkpoints").iterdir():
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="none of the 2 checkpoints can be read"):
        run_recipe(toy, out="x", overrides=overrides, resume=True)
    assert older.exists()


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (
            'stages.0.matches.0.student="11"',
            TapError,
            r"--set .*: stages\[0\]\.matches\[0\]\.student: Sequential has no module '11'; ",
        ),
        (
            "stages.1.freeze=[nothing.*]",
            RecipeError,
            r"--set .*: stages\[1\]\.freeze\[0\]: .*'nothing\.\*' matches no para",
        ),
        ("student._args_.1.in_features=5", ShapeError, r"its layer '1' \(Linear\) got \(8, 4\)"),
        ("student.weights=nowhere.pt", CheckpointError, r"--set .*: student\.weights: no file 'nowhere\.pt'"),
        ("data.train.count=0", DataError, r"--set .*: data\.train: Points holds no samples"),
    ],
)
def test_mistakes_are_reported_before_anything_is_written(toy, change, kind, message):
    with pytest.raises(kind, match=message):
        run_recipe(toy, overrides=[change])
    assert not Path("runs").exists()


def test_a_failed_run_is_not_blamed_on_a_line_of_the_recipe(toy):
    with pytest.raises(TrainingError, match=r"^stage 'output', step"):
        run_recipe(toy, overrides=["stages.1.optimizer.lr=1e30", "stages.1.clip="])


def test_a_recipe_without_a_teacher_trains_its_student(toy):
    overrides = ["teacher=", "pretrain=", "control=false", "stages=[{name: plain, steps: 3, tasks: [mse]}]"]
    result = run_recipe(toy, overrides=overrides)
    assert [(row.name, row.role) for row in result.rows] == [("zero", "baseline"), ("student", "alone")]
    assert not result.differences


def test_a_recipe_without_an_evaluation_still_counts_what_models_cost(toy):
    result = run_recipe(toy, overrides=["evaluate=", "control=false"])
    assert [row.summary().keys() for row in result.rows] == [{"name", "role", "parameters", "macs"}] * 2


def test_weights_are_loaded_before_the_stages(toy, weights, equal):
    run_recipe(toy, out="first", overrides=["control=false"])
    changes = ["teacher.weights=first/teacher/student.safetensors", "data.train.seed=5"]
    components = build_components(load_recipe(toy, overrides=changes))
    assert fit_to_data(components, seed=0).keys() == {"student.0.mean"}  # the teacher's was among its weights
    assert equal(components.teachers["teacher"].state_dict(), weights("first", "teacher"))


def test_each_part_is_validated_on_the_validation_data_in_order(toy, monkeypatch):
    seen = []
    fit = running.ProgressiveDistiller.fit

    def noted(distiller, loader, validation, **options):
        seen.append(validation)
        return fit(distiller, loader, validation, **options)

    monkeypatch.setattr(running.ProgressiveDistiller, "fit", noted)
    run_recipe(toy, overrides=["control=false", "data.val={_target_: toy_parts.Points, count: 3}"])
    assert [len(loader.dataset) for loader in seen] == [3, 3]
    assert not seen[0].shuffle


def test_a_student_that_inherits_has_two_controls(edited, weights, equal):
    result = run_recipe(edited("control: true", "control: true\ninherit: teacher"))
    assert load_recipe("runs/toy/recipe.yaml").inherit == load_recipe("toy.yaml").inherit
    assert [row.name for row in result.rows][1:] == [
        "teacher",
        "student alone",
        "student inherited",
        "student distilled",
    ]
    assert [difference.than for difference in result.differences] == ["zero", "student alone", "student inherited"]
    card = Path("runs/toy/card.md").read_text()
    assert "Imitation, beside inheritance," in card
    assert "starts from the weights of its teacher" in card
    assert not equal(weights("runs/toy", "inherited"), weights("runs/toy", "alone"))
    assert run_recipe("toy.yaml", out="runs/toy", resume=True).rows == result.rows


def test_the_student_and_a_control_start_from_the_weights_of_the_trained_teacher(edited, weights, equal):
    edited("control: true", "control: true\ninherit: {names: {'1': '1', '3': '3'}}")
    still = {"_target_": "torch.optim.SGD", "lr": 0.0}
    run_recipe("toy.yaml", overrides={"stages.0.optimizer": still, "stages.1.optimizer": still})
    assert equal(weights("runs/toy"), weights("runs/toy", "inherited"))
    assert weights("runs/toy")["3.bias"].equal(weights("runs/toy", "teacher")["3.bias"])
    assert not weights("runs/toy")["3.bias"].equal(weights("runs/toy", "alone")["3.bias"])
