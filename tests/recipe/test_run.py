import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from compresskit.distill.spec.match import Match, Task
from compresskit.distill.spec.stage import Stage
from compresskit.distill.training.loop import StageLoop
from compresskit.errors import CheckpointError, DataError, RecipeError, TapError, TrainingError
from compresskit.recipe.building.closed_form import fit_to_data
from compresskit.recipe.building.components import build_parts, control_stages
from compresskit.recipe.reading.load import load_recipe
from compresskit.recipe.running import run as running
from compresskit.recipe.running.folder import choose_folder
from compresskit.recipe.running.run import run_recipe


def _files(folder):
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}


def _weights(folder, part="."):
    return load_file(Path(folder) / part / "student.safetensors")


def _equal(one, other):
    return one.keys() == other.keys() and all(tensor.equal(other[name]) for name, tensor in one.items())


def test_a_run_leaves_everything_that_tells_of_it(toy):
    result = run_recipe(toy)
    assert result.folder == Path("runs/toy")
    found = {name for name in _files("runs/toy") if "checkpoints" not in name}
    assert found == {
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


def test_a_dry_run_shows_the_plan_of_each_part_and_writes_nothing(toy):
    before = _files(".")
    text = str(run_recipe(toy, dry_run=True))
    assert {name for name in _files(".") - before if "__pycache__" not in name} == set()
    for expected in ("Part 1 of 3: the teacher learns", "Part 3 of 3", "mse(1)", "8x16", "nothing was written"):
        assert expected in text


def test_the_control_is_the_same_student_from_the_same_weights_on_the_supervised_terms(toy):
    recipe = load_recipe(toy)
    run = running._Run(recipe, None, "cpu")
    run.solve()
    alone = run.distillers["alone"]
    assert _equal(alone.student.state_dict(), run.parts.student.state_dict())
    assert alone.student is not run.parts.student
    assert [stage.steps for stage in alone.stages] == [stage.steps for stage in recipe.stages]
    assert [stage.matches for stage in alone.stages] == [(), ()]
    assert [stage.tasks for stage in alone.stages] == [recipe.stages[1].tasks] * 2


def test_stages_without_tasks_take_those_of_the_last_stage_that_has_some():
    shared = {"steps": 1, "matches": [Match("a")]}
    stages = (
        Stage("1", train="upstream", **shared),
        Stage("2", tasks=[Task("mse")], train="between", freeze=["b*"], **shared),
        Stage("3", tasks=[Task("l1")], train=["head*"], **shared),
        Stage("4", **shared),
    )
    alone = control_stages(stages)
    assert [stage.tasks[0].loss for stage in alone] == ["l1", "mse", "l1", "l1"]
    assert [stage.train for stage in alone] == [("*",), ("*",), ("head*",), ("*",)]
    assert alone[1].freeze == ("b*",)


def test_the_teacher_of_the_student_is_the_one_that_was_trained(toy):
    run_recipe(toy)
    initial = build_parts(load_recipe(toy)).teachers["teacher"]
    assert initial is not None
    trained = _weights("runs/toy", "teacher")
    assert not trained["1.weight"].equal(initial.state_dict()["1.weight"])


def test_models_start_from_the_seed_and_not_from_each_other(toy):
    torch.rand(7)
    one = build_parts(load_recipe(toy)).student.state_dict()
    other = build_parts(load_recipe(toy, overrides=["teacher._args_.1.bias=false"])).student.state_dict()
    different = build_parts(load_recipe(toy, overrides=["seed=4"])).student.state_dict()
    assert one["1.weight"].equal(other["1.weight"])
    assert not one["1.weight"].equal(different["1.weight"])


def test_what_is_solved_in_closed_form_is_solved_once_on_the_training_data(toy):
    parts = build_parts(load_recipe(toy))
    state = fit_to_data(parts, seed=0)
    expected = torch.stack([parts.train[index][0] for index in range(len(parts.train))]).mean(0)
    assert state.keys() == {"teacher.0.mean", "student.0.mean"}
    assert state["student.0.mean"].equal(expected)
    assert [model.get_submodule("0").shown for model in (parts.teachers["teacher"], parts.student)] == [1, 0]


def test_what_differs_in_any_respect_is_solved_by_itself(toy):
    parts = build_parts(load_recipe(toy))
    parts.student.get_submodule("0").hint = torch.ones(2)
    fit_to_data(parts, seed=0)
    assert [model.get_submodule("0").shown for model in (parts.teachers["teacher"], parts.student)] == [1, 1]


def test_a_solution_is_taken_up_again_when_the_run_goes_on(toy, monkeypatch):
    run_recipe(toy, out="x", overrides=["control=false"])
    Path("x/summary.json").unlink()
    monkeypatch.setattr(running, "fit_to_data", lambda *_: pytest.fail("solved again"))
    run_recipe(toy, out="x", overrides=["control=false"], resume=True)


def test_the_same_recipe_gives_the_same_weights_with_any_number_of_workers(toy):
    run_recipe(toy, out="none", overrides=["control=false"])
    run_recipe(toy, out="two", overrides=["control=false", "data.workers=2"])
    assert _equal(_weights("none"), _weights("two"))


@pytest.mark.parametrize("part", ["teacher", ".", "alone", "evaluation"])
def test_a_run_that_broke_off_goes_on_and_finished_parts_are_not_run_again(toy, monkeypatch, part, capsys):
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
    for name in ("teacher", ".", "alone"):
        assert _equal(_weights("undisturbed", name), _weights("disturbed", name))
    assert Path("undisturbed/summary.json").read_text() == Path("disturbed/summary.json").read_text()
    assert len(json.loads(Path("disturbed/environment.json").read_text())) == 2
    assert result.folder == Path("disturbed")


def _interrupt(*_, **__):
    raise KeyboardInterrupt


def _interrupt_in(part, step):
    """An update of the loop that is interrupted in one part of the run, at one step."""
    update, seen = StageLoop.train_step, []

    def interrupted(loop, batches):
        seen.append(_part(loop))
        if seen[-1] == part and seen.count(part) == step:
            raise KeyboardInterrupt
        return update(loop, batches)

    return interrupted


def _noted(trained):
    """An update of the loop that notes which part of the run it belongs to."""
    update = StageLoop.train_step

    def noted(loop, batches):
        trained.append(_part(loop))
        return update(loop, batches)

    return noted


def _part(loop):
    return "teacher" if loop.stage.name == "fit" else "." if loop.stage.matches else "alone"


def test_a_finished_run_is_only_told_again(toy, capsys, monkeypatch):
    first = run_recipe(toy)
    monkeypatch.setattr(running, "build_parts", lambda *_: pytest.fail("built again"))
    assert str(run_recipe(toy, resume=True)) == str(first)
    assert "runs/toy is finished already" in capsys.readouterr().err


def test_a_new_run_takes_the_next_free_number(toy):
    recipe = load_recipe(toy)
    assert choose_folder(recipe, None, resume=False) == Path("runs/toy")
    for name in ("toy", "toy-2", "toy-9", "toy-extra", "toyish"):
        Path("runs", name).mkdir(parents=True)
    assert choose_folder(recipe, None, resume=False) == Path("runs/toy-10")


def test_to_go_on_without_a_folder_takes_the_newest_of_this_recipe(toy):
    brief = ["control=false", "pretrain="]
    for overrides in (brief, brief, [*brief, "seed=4"]):
        run_recipe(toy, overrides=overrides)
    assert choose_folder(load_recipe(toy, overrides=brief), None, resume=True) == Path("runs/toy-2")
    assert choose_folder(load_recipe(toy, overrides=[*brief, "seed=4"]), None, resume=True) == Path("runs/toy-3")
    with pytest.raises(CheckpointError, match=r"toy-3 holds another recipe's run: seed is 4 there and 5 here"):
        choose_folder(load_recipe(toy, overrides=[*brief, "seed=5"]), None, resume=True)


def test_a_used_folder_is_refused_and_stays_as_it_is(toy):
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
    assert _files("used") == {"thesis.txt"}


def test_to_go_on_with_nothing_is_refused(toy):
    with pytest.raises(
        CheckpointError, match="nowhere does not exist, so there is no run to go on with; start it with"
    ):
        run_recipe(toy, out="nowhere", resume=True)
    with pytest.raises(CheckpointError, match="there is no run in runs/toy to go on with; start it without --resume"):
        run_recipe(toy, resume=True)


def test_a_folder_with_this_recipe_and_no_checkpoint_starts_again_and_says_so(toy, monkeypatch, capsys):
    with monkeypatch.context() as broken:
        broken.setattr(running, "_train", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_recipe(toy, out="x")
    run_recipe(toy, out="x", resume=True)
    assert "x has no checkpoint yet: starting again" in capsys.readouterr().err


def test_another_recipes_folder_is_refused_with_the_first_difference(toy):
    run_recipe(toy, out="x", overrides=["control=false"])
    before = {name: (Path("x") / name).read_bytes() for name in _files("x")}
    with pytest.raises(CheckpointError, match=r"x holds another recipe's run: stages\[1\].steps is 6 there and 7 here"):
        run_recipe(toy, out="x", overrides=["control=false", "stages.1.steps=7"], resume=True)
    assert {name: (Path("x") / name).read_bytes() for name in _files("x")} == before


def test_a_damaged_checkpoint_is_passed_over_and_two_are_an_error(toy):
    overrides = ["control=false"]
    run_recipe(toy, out="x", overrides=overrides)
    expected = _weights("x")
    Path("x/summary.json").unlink()
    newest, older = sorted(Path("x/checkpoints").iterdir(), reverse=True)
    newest.write_bytes(newest.read_bytes()[:100])
    run_recipe(toy, out="x", overrides=overrides, resume=True)
    assert _equal(_weights("x"), expected)
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
        ("student._args_.1.in_features=5", RuntimeError, "shapes cannot be multiplied"),
        ("student.weights=nowhere.pt", CheckpointError, r"--set .*: student\.weights: no file 'nowhere\.pt'"),
        ("data.train.count=0", DataError, r"toy\.yaml, line 18: data\.train: Points holds no samples"),
    ],
)
def test_what_cannot_work_is_found_before_anything_is_written(toy, change, kind, message):
    with pytest.raises(kind, match=message):
        run_recipe(toy, overrides=[change])
    assert not Path("runs").exists()


def test_a_run_that_fails_says_so_as_it_is(toy):
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


def test_weights_are_loaded_before_the_stages(toy):
    run_recipe(toy, out="first", overrides=["control=false"])
    changes = ["teacher.weights=first/teacher/student.safetensors", "data.train.seed=5"]
    parts = build_parts(load_recipe(toy, overrides=changes))
    assert fit_to_data(parts, seed=0).keys() == {"student.0.mean"}  # the teacher's was among its weights
    assert _equal(parts.teachers["teacher"].state_dict(), _weights("first", "teacher"))


def test_validation_data_is_walked_at_each_stages_end(toy, monkeypatch):
    seen = []
    fit = running.ProgressiveDistiller.fit

    def noted(distiller, loader, validation, **options):
        seen.append(validation)
        return fit(distiller, loader, validation, **options)

    monkeypatch.setattr(running.ProgressiveDistiller, "fit", noted)
    run_recipe(toy, overrides=["control=false", "data.val={_target_: toy_parts.Points, count: 3}"])
    assert [len(loader.dataset) for loader in seen] == [3, 3]
    assert not seen[0].shuffle
