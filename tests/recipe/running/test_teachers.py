"""Recipes with several teachers, views, and curricula whose parameters take terms."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from compresskit.distill.spec.match import Match, Splice, Task
from compresskit.errors import RecipeError
from compresskit.recipe.building.components import build_components, control_stages
from compresskit.recipe.reading import yaml
from compresskit.recipe.reading.load import load_recipe
from compresskit.recipe.running.run import run_recipe
from compresskit.recipe.scoring.evaluate import evaluate_recipe

NET = """
    _target_: torch.nn.Sequential
    _args_:
      - {{_target_: torch.nn.Linear, in_features: 4, out_features: {width}}}
      - {{_target_: torch.nn.Tanh}}
      - {{_target_: torch.nn.Linear, in_features: {width}, out_features: 3}}
"""
RECIPE = f"""
name: chain
teacher:
  large:{NET.format(width=16)}
  middle:{NET.format(width=8)}
student:{NET.format(width=4)}
data:
  train: {{_target_: toy_parts.Points}}
  test: {{_target_: toy_parts.Points, count: 5, seed: 9}}
pretrain:
  large:
    - {{name: fit, tasks: [mse], steps: 5}}
stages:
  _target_: compresskit.curricula.assistants
  chain: [large, middle]
  matches: [.]
  tasks: [mse]
  steps: [4, 6]
control: true
evaluate: {{_target_: toy_parts.Evaluation}}
"""


@pytest.fixture
def chain(toy):
    path = Path(toy).with_name("chain.yaml")
    path.write_text(RECIPE)
    return str(path)


def test_assistants_are_taught_in_turn_and_each_has_its_row(chain):
    result = run_recipe(chain)
    assert [(row.name, row.role) for row in result.rows] == [
        ("zero", "baseline"),
        ("large", "teacher"),
        ("middle", "teacher"),
        ("student alone", "alone"),
        ("student distilled", "distilled"),
    ]
    records = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["stage"] for record in records] == ["large-teaches-middle"] * 4 + ["middle-teaches-student"] * 6
    alone = (result.folder / "alone" / "metrics.jsonl").read_text().splitlines()
    assert len(alone) == 6  # not the steps in which only the assistant learned
    assert (result.folder / "teacher-large" / "metrics.jsonl").exists()
    assert set(load_file(result.folder / "middle.safetensors")) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert "The teacher large, on its own" in (result.folder / "card.md").read_text()


def test_a_chain_resumes_where_it_was_stopped(chain, monkeypatch):
    whole = run_recipe(chain, out="whole")
    from compresskit.distill.training.loop import StageLoop

    update, calls = StageLoop.train_step, []

    def dies(self, *arguments):
        calls.append(1)
        if len(calls) > 5 + 4 + 2:
            raise KeyboardInterrupt
        return update(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(StageLoop, "train_step", dies)
        patch.setattr("compresskit.distill.session.run_folder.CHECKPOINT_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            run_recipe(chain, out="part")
    run_recipe(chain, out="part", resume=True)
    for name in ("student", "middle"):
        ours, theirs = (load_file(Path(folder) / f"{name}.safetensors") for folder in (whole.folder, "part"))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_a_recipe_of_several_teachers_is_the_same_when_it_is_written_out(chain):
    recipe = load_recipe(chain, overrides=["views={large: {_target_: compresskit.distill.views.Part, key: 0}}"])
    again = Path("again.yaml")
    again.write_text(yaml.dump(recipe.resolved()))
    assert load_recipe(again).resolved() == recipe.resolved()


def test_models_see_their_views_of_the_inputs(chain):
    changes = ["views={middle: {_target_: compresskit.distill.views.Part, key: nothing}}"]
    with pytest.raises(Exception, match="the inputs have no such part"):
        run_recipe(chain, overrides=changes, dry_run=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("pretrain.lage=[{name: fit, tasks: [mse], steps: 1}]", "there is no teacher 'lage'; did you mean 'large'?"),
        ("stages.chain=[large, midle]", "no teacher 'midle'"),
        ("stages.chian=[large]", "unknown key 'chian'; did you mean 'chain'?"),
        ("views=[1]", "views must be a mapping of models' names to nodes"),
        ("teacher.middle.weights=3", "teacher.middle: weights must be a path, or PACKAGE:NAME, got 3"),
        ("stages.matches=[{student: ., los: kl}]", "stages.matches[0]: unknown key 'los'; did you mean 'loss'?"),
    ],
)
def test_a_mistake_is_reported_with_its_place(chain, change, message):
    with pytest.raises(RecipeError) as caught:
        run_recipe(chain, overrides=[change], dry_run=True)
    assert message in str(caught.value)


def test_every_parameter_of_a_curriculum_that_takes_terms_is_parsed(chain):
    node = (
        "stages={_target_: compresskit.curricula.blockwise, blocks: [{student: '0', teacher: 'large:0'}], "
        "outputs: [{student: ., teacher: 'large:.'}], tasks: [mse], steps: 2}"
    )
    stages = load_recipe(chain, overrides=[node]).stages
    assert stages[1].matches == (Match("hybrid:.", "large:."),)
    assert stages[1].splices == (Splice("0", into="large:0"),)
    node = (
        "stages={_target_: compresskit.curricula.anchored, methods: [[{student: ., teacher: 'large:.'}], []], "
        "anchor: ., tasks: [mse], steps: 2}"
    )
    assert load_recipe(chain, overrides=[node]).stages[1].matches == (Match(".", "previous:."),)


def test_the_control_of_blocks_in_a_teacher_is_the_student_on_its_own_tasks(chain):
    node = (
        "stages={_target_: compresskit.curricula.blockwise, blocks: [{student: '0', teacher: 'large:0'}], "
        "tasks: [mse], steps: 2, groups: {'adapter:*': {lr: 1.0}}}"
    )
    alone = control_stages(load_recipe(chain, overrides=[node]).stages)
    assert [(stage.tasks, stage.splices, stage.groups, stage.train) for stage in alone] == [
        ((Task("mse"),), (), {}, ("*",))
    ] * 3


@pytest.mark.parametrize("change", ["freeze: ['middle:0.*']", "best: min mse(.), every: 1"])
def test_the_control_leaves_out_what_belongs_to_others(chain, change):
    node = (
        "stages=[{name: s, matches: [{student: ., teacher: 'large:.'}], "
        f"tasks: [mse, {{loss: mse, student: 'middle:.'}}], steps: 1, {change}}}]"
    )
    recipe = load_recipe(chain, overrides=[node])
    (alone,) = control_stages(recipe.stages)
    assert (alone.tasks, alone.freeze, alone.best) == ((Task("mse"),), (), None)


def test_a_control_needs_a_task_of_the_student(chain):
    task = "{loss: mse, student: 'middle:.'}"
    node = f"stages=[{{name: s, matches: [{{student: ., teacher: 'large:.'}}], tasks: [{task}], steps: 1}}]"
    with pytest.raises(RecipeError, match="no stage has tasks of the student"):
        load_recipe(chain, overrides=[node])


def test_models_are_measured_behind_their_views(chain):
    components = build_components(load_recipe(chain, overrides=["views={large: {_target_: torch.nn.Softmax, dim: 1}}"]))
    large, points = components.teachers["large"], torch.randn(2, 4)
    assert torch.equal(components.viewed("large", large)(points), large(points.softmax(1)))
    assert components.viewed("middle", components.teachers["middle"]) is components.teachers["middle"]


def test_an_evaluation_finds_the_weights_of_every_model_of_a_run(chain):
    run = run_recipe(chain, out="run")
    scores = evaluate_recipe("run", methods=["student", "large", "middle"])
    assert run.folder is not None
    assert {score.method for score in scores.scores} == {"student", "large", "middle"}
