"""The defining property of each curriculum: the modules that train and the terms that they learn from, by stage."""

import pytest
import torch
from torch import nn

from compresskit import Match, ProgressiveDistiller, RecipeError, Task, curricula

POINTS = [Match("0"), Match("1"), Match(".", loss="kl")]
TASK = Task("cross_entropy")


def net(width, seed):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Sequential(nn.Linear(3, width), nn.Tanh()),
        nn.Sequential(nn.Linear(width, width), nn.Tanh()),
        nn.Linear(width, 4),
    )


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(8, 3, generator=generator), torch.randint(4, (8,), generator=generator)) for _ in range(2)]


def run(teacher, student, stages, batches):
    """Return, for each stage, the modules whose weights changed, as `model.module`, and the terms that were logged."""
    models = {"student": student, **(teacher if isinstance(teacher, dict) else {"teacher": teacher})}
    changes = []
    before = {}

    def values():
        return {f"{name}.{key[0]}": v.clone() for name, m in models.items() for key, v in m.state_dict().items()}

    def evaluate(_student):
        now = values()
        changes.append({key for key in now if not torch.equal(now[key], before[key])})
        before.update(now)
        return {}

    before.update(values())
    history = ProgressiveDistiller(teacher, student, stages).fit(batches, evaluate=evaluate).history
    terms = [next(set(r["terms"]) for r in history if r["stage"] == stage.name) for stage in stages]
    return list(zip(changes, terms, strict=True))


WHOLE = {"student.0", "student.1", "student.2"}


def test_joint_is_one_stage_in_which_everything_trains(batches, sgd):
    stages = curricula.joint(POINTS, steps=2, tasks=[TASK], optimizer=sgd)
    assert run(net(6, 1), net(4, 2), stages, batches) == [
        (WHOLE, {"mse(0)", "mse(1)", "kl(.)", "cross_entropy(., target)"})
    ]


def test_fitnets_learns_from_the_hint_first_and_then_from_the_outputs_alone(batches, sgd):
    stages = curricula.fitnets([Match("1")], [POINTS[2]], steps=[2, 3], tasks=[TASK], optimizer=sgd)
    assert [stage.steps for stage in stages] == [2, 3]
    assert run(net(6, 1), net(4, 2), stages, batches) == [
        ({"student.0", "student.1"}, {"mse(1)"}),
        (WHOLE, {"kl(.)", "cross_entropy(., target)"}),
    ]


def test_progressive_cumulative_keeps_earlier_matches_and_trains_all_modules_that_feed_them(batches, sgd):
    stages = curricula.progressive(POINTS, steps=1, tasks=[TASK], optimizer=sgd)
    assert run(net(6, 1), net(4, 2), stages, batches) == [
        ({"student.0"}, {"mse(0)"}),
        ({"student.0", "student.1"}, {"mse(0)", "mse(1)"}),
        (WHOLE, {"mse(0)", "mse(1)", "kl(.)", "cross_entropy(., target)"}),
    ]


def test_progressive_isolated_has_one_match_at_a_time_and_leaves_earlier_modules_alone(batches, sgd):
    stages = curricula.progressive(POINTS, steps=1, mode="isolated", tasks=[TASK], optimizer=sgd)
    assert run(net(6, 1), net(4, 2), stages, batches) == [
        ({"student.0"}, {"mse(0)"}),
        ({"student.1"}, {"mse(1)"}),
        (WHOLE, {"kl(.)", "cross_entropy(., target)"}),
    ]


def test_annealed_lowers_the_temperature_to_1_and_ends_with_the_tasks_alone(batches):
    seen = []

    def soft(student, teacher, temperature):
        seen.append(temperature)
        return ((student - teacher) / temperature).square().mean()

    stages = curricula.annealed([Match(".", loss=soft, temperature=3.0)], steps=[5, 1], tasks=[TASK], temperature=5.0)
    assert run(net(6, 1), net(4, 2), stages, batches) == [
        (WHOLE, {"soft(.)"}),
        (WHOLE, {"cross_entropy(., target)"}),
    ]
    assert seen[-5:] == [5.0, 4.0, 3.0, 2.0, 1.0]


def test_each_assistant_learns_from_the_one_before_and_the_student_from_the_last(batches, sgd):
    teachers = {"large": net(8, 1), "middle": net(6, 2)}
    stages = curricula.assistants(["large", "middle"], [POINTS[2]], steps=1, tasks=[TASK], optimizer=sgd)
    assert run(teachers, net(4, 3), stages, batches) == [
        ({"middle.0", "middle.1", "middle.2"}, {"kl(middle:., large:.)", "cross_entropy(middle:., target)"}),
        (WHOLE, {"kl(., middle:.)", "cross_entropy(., target)"}),
    ]


def test_route_has_one_of_the_teacher_s_checkpoints_in_each_stage(batches, sgd):
    teachers = {"early": net(6, 1), "late": net(6, 2)}
    stages = curricula.route(["early", "late"], [Match("1")], steps=1, optimizer=sgd)
    half = {"student.0", "student.1"}
    assert run(teachers, net(4, 3), stages, batches) == [(half, {"mse(1, early:1)"}), (half, {"mse(1, late:1)"})]


def test_anchored_compares_later_stages_with_the_student_from_their_beginning(batches, sgd):
    stages = curricula.anchored([[POINTS[1]], [POINTS[2]]], anchor=Match("."), steps=2, optimizer=sgd)
    assert run(net(6, 1), net(4, 2), stages, batches) == [
        ({"student.0", "student.1"}, {"mse(1)"}),
        (WHOLE, {"kl(.)", "mse(., previous:.)"}),
    ]


@pytest.mark.parametrize("mutual", [False, True])
def test_together_trains_the_teacher_on_the_tasks_and_with_mutual_on_its_student(batches, mutual, sgd):
    stages = curricula.together([POINTS[2]], mutual=mutual, steps=1, tasks=[TASK], optimizer=sgd)
    back = {"kl(teacher:., student:.)"} if mutual else set()
    terms = {"kl(., teacher:.)", "cross_entropy(., target)", "cross_entropy(teacher:., target)"}
    assert run(net(6, 1), net(4, 2), stages, batches) == [
        (WHOLE | {"teacher.0", "teacher.1", "teacher.2"}, terms | back)
    ]


def test_mutual_learning_compares_the_two_in_both_directions(batches):
    stages = curricula.together([POINTS[2]], mutual=True, steps=1, tasks=[TASK])
    teacher, student = net(6, 1), net(4, 2)
    with torch.no_grad():
        logs = [model(batches[0][0]).log_softmax(1) for model in (student, teacher)]
        back = (logs[0].exp() * (logs[0] - logs[1])).sum(1).mean().item()  # KL(student || teacher)
    terms = ProgressiveDistiller(teacher, student, stages).fit(batches).history[0]["terms"]
    assert terms["kl(teacher:., student:.)"]["value"] == pytest.approx(back, rel=1e-4)


def test_blockwise_goes_from_local_to_global_with_the_student_s_blocks_in_the_teacher(batches, sgd):
    stages = curricula.blockwise(POINTS[:2], steps=[1, 2, 3], tasks=[TASK], outputs=[POINTS[2]], optimizer=sgd)
    assert [(stage.name, stage.steps) for stage in stages] == [
        ("1-0-local", 1),
        ("1-0-global", 2),
        ("2-1-local", 1),
        ("2-1-global", 2),
        ("student", 3),
    ]
    outputs = {"kl(hybrid:., .)", "cross_entropy(hybrid:., target)"}
    assert run(net(6, 1), net(4, 2), stages, batches) == [
        ({"student.0"}, {"mse(0)"}),
        ({"student.0"}, outputs),
        ({"student.1"}, {"mse(1)"}),
        ({"student.0", "student.1"}, outputs),
        (WHOLE, {"kl(.)", "cross_entropy(., target)"}),
    ]
    assert [[splice.source for splice in stage.splices] for stage in stages] == [[], ["0"], [], ["0", "1"], []]


def test_progressive_cumulative_is_written_as_stages_that_train_upstream():
    stages = curricula.progressive([Match("a"), Match("b"), Match(".")], steps=[1, 2, 3], tasks=[Task("mse")])
    assert [[m.student for m in s.matches] for s in stages] == [["a"], ["a", "b"], ["a", "b", "."]]
    assert [s.train for s in stages] == ["upstream", "upstream", ("*",)]
    assert [len(s.tasks) for s in stages] == [0, 0, 1]
    assert [s.steps for s in stages] == [1, 2, 3]


def test_progressive_isolated_is_written_as_stages_that_train_between():
    stages = curricula.progressive([Match("a"), Match("b"), Match(".")], steps=4, mode="isolated", clip=1.0)
    assert [[m.student for m in s.matches] for s in stages] == [["a"], ["b"], ["."]]
    assert [s.train for s in stages] == ["between", "between", ("*",)]
    assert all(s.clip == 1.0 for s in stages)


def test_in_turn_is_written_as_one_stage_upstream_for_each_task():
    stages = curricula.in_turn([Task("mse", "a"), Task("l1")], steps=[3, 4], clip=1.0)
    assert [(s.name, s.tasks[0].loss, s.train, s.steps, s.clip) for s in stages] == [
        ("1-a", "mse", "upstream", 3, 1.0),
        ("2-output", "l1", "upstream", 4, 1.0),
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: curricula.joint([], steps=1), "neither matches nor tasks"),
        (lambda: curricula.fitnets([], POINTS, steps=1), "hints: fitnets needs at least one"),
        (lambda: curricula.fitnets(POINTS, POINTS, steps=[1, 2, 3]), "steps: 3 numbers for 2 stages"),
        (lambda: curricula.annealed([Match("0")], steps=1, tasks=[TASK]), "mse has no option 'temperature'"),
        (lambda: curricula.annealed(POINTS[2:], steps=1, tasks=[]), "tasks: annealed needs at least one"),
        (lambda: curricula.assistants(["large"], POINTS, steps=1), "chain: assistants needs at least 2"),
        (lambda: curricula.assistants(["a", "a"], POINTS, steps=1), "chain: a, a names a model twice"),
        (lambda: curricula.assistants(["a", "b"], [Match("b:0")], steps=1), "'b:0': this curriculum says itself"),
        (lambda: curricula.route([], POINTS, steps=1), "teachers: route needs at least 1"),
        (lambda: curricula.anchored([], anchor=Match("."), steps=1), "methods: anchored needs at least one"),
        (lambda: curricula.together(POINTS, steps=1, tasks=[]), "tasks: together needs at least one"),
        (lambda: curricula.progressive([Match("a")], steps=5, mode="cumulativ"), "did you mean 'cumulative'"),
        (lambda: curricula.progressive([Match("a")], steps=[1, 2]), "2 numbers for 1 matches"),
        (lambda: curricula.progressive([], steps=5), "progressive needs at least one"),
        (lambda: curricula.progressive([Match("a")], steps="ten"), "steps must be a whole number"),
        (lambda: curricula.blockwise([], steps=1, tasks=[TASK]), "blocks: blockwise needs at least one"),
        (lambda: curricula.blockwise(POINTS, steps=1), "outputs: blockwise needs matches of the outputs"),
    ],
)
def test_wrong_arguments_of_a_curriculum_are_refused_with_a_reason(make, message):
    with pytest.raises(RecipeError) as caught:
        make()
    assert message in str(caught.value)
