"""Each curriculum's defining property: what trains, from which teacher, by which terms, in which stage."""

import pytest
import torch
from torch import nn

from compresskit import Match, ProgressiveDistiller, RecipeError, Task, curricula

SGD = {"_target_": "torch.optim.SGD", "lr": 0.1}
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
    """For each stage: the models whose weights changed, as `name.module`, and the terms that were logged."""
    models = {"student": student, **(teacher if isinstance(teacher, dict) else {"teacher": teacher})}
    told = []
    before = {}

    def values():
        return {f"{name}.{key[0]}": v.clone() for name, m in models.items() for key, v in m.state_dict().items()}

    def evaluate(_student):
        now = values()
        told.append({key for key in now if not torch.equal(now[key], before[key])})
        before.update(now)
        return {}

    before.update(values())
    history = ProgressiveDistiller(teacher, student, stages).fit(batches, evaluate=evaluate).history
    terms = [next(set(r["terms"]) for r in history if r["stage"] == stage.name) for stage in stages]
    return list(zip(told, terms, strict=True))


WHOLE = {"student.0", "student.1", "student.2"}


def test_joint_is_one_stage_of_everything(batches):
    stages = curricula.joint(POINTS, steps=2, tasks=[TASK], optimizer=SGD)
    assert run(net(6, 1), net(4, 2), stages, batches) == [
        (WHOLE, {"mse(0)", "mse(1)", "kl(.)", "cross_entropy(., target)"})
    ]


def test_fitnets_learns_the_hint_first_and_then_the_outputs_without_it(batches):
    stages = curricula.fitnets([Match("1")], [POINTS[2]], steps=[2, 3], tasks=[TASK], optimizer=SGD)
    assert [stage.steps for stage in stages] == [2, 3]
    assert run(net(6, 1), net(4, 2), stages, batches) == [
        ({"student.0", "student.1"}, {"mse(1)"}),
        (WHOLE, {"kl(.)", "cross_entropy(., target)"}),
    ]


def test_progressive_cumulative_keeps_what_was_learned_before_and_trains_all_that_feeds_it(batches):
    stages = curricula.progressive(POINTS, steps=1, tasks=[TASK], optimizer=SGD)
    assert run(net(6, 1), net(4, 2), stages, batches) == [
        ({"student.0"}, {"mse(0)"}),
        ({"student.0", "student.1"}, {"mse(0)", "mse(1)"}),
        (WHOLE, {"mse(0)", "mse(1)", "kl(.)", "cross_entropy(., target)"}),
    ]


def test_progressive_isolated_has_one_point_at_a_time_and_leaves_what_lies_before_it(batches):
    stages = curricula.progressive(POINTS, steps=1, mode="isolated", tasks=[TASK], optimizer=SGD)
    assert run(net(6, 1), net(4, 2), stages, batches) == [
        ({"student.0"}, {"mse(0)"}),
        ({"student.1"}, {"mse(1)"}),
        (WHOLE, {"kl(.)", "cross_entropy(., target)"}),
    ]


def test_annealed_sharpens_the_teacher_to_temperature_1_and_ends_with_the_truth_alone(batches):
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


def test_assistants_learn_one_from_the_other_and_the_student_from_the_last(batches):
    teachers = {"large": net(8, 1), "middle": net(6, 2)}
    stages = curricula.assistants(["large", "middle"], [POINTS[2]], steps=1, tasks=[TASK], optimizer=SGD)
    assert run(teachers, net(4, 3), stages, batches) == [
        ({"middle.0", "middle.1", "middle.2"}, {"kl(middle:., large:.)", "cross_entropy(middle:., target)"}),
        (WHOLE, {"kl(., middle:.)", "cross_entropy(., target)"}),
    ]


def test_route_has_one_of_the_teacher_s_checkpoints_in_each_stage(batches):
    teachers = {"early": net(6, 1), "late": net(6, 2)}
    stages = curricula.route(["early", "late"], [Match("1")], steps=1, optimizer=SGD)
    half = {"student.0", "student.1"}
    assert run(teachers, net(4, 3), stages, batches) == [(half, {"mse(1, early:1)"}), (half, {"mse(1, late:1)"})]


def test_anchored_holds_later_stages_near_the_student_that_they_began_with(batches):
    stages = curricula.anchored([[POINTS[1]], [POINTS[2]]], anchor=Match("."), steps=2, optimizer=SGD)
    assert run(net(6, 1), net(4, 2), stages, batches) == [
        ({"student.0", "student.1"}, {"mse(1)"}),
        (WHOLE, {"kl(.)", "mse(., previous:.)"}),
    ]


@pytest.mark.parametrize("mutual", [False, True])
def test_together_trains_the_teacher_on_the_tasks_and_if_asked_on_its_student(batches, mutual):
    stages = curricula.together([POINTS[2]], mutual=mutual, steps=1, tasks=[TASK], optimizer=SGD)
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


def test_blockwise_goes_from_local_to_global_with_the_student_s_blocks_in_the_teacher(batches):
    stages = curricula.blockwise(POINTS[:2], steps=[1, 2, 3], tasks=[TASK], outputs=[POINTS[2]], optimizer=SGD)
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
        (lambda: curricula.blockwise([], steps=1, tasks=[TASK]), "blocks: blockwise needs at least one"),
        (lambda: curricula.blockwise(POINTS, steps=1), "outputs: blockwise needs matches of the outputs"),
    ],
)
def test_what_makes_no_curriculum_is_said(make, message):
    with pytest.raises(RecipeError) as caught:
        make()
    assert message in str(caught.value)
