"""Callbacks: what a run calls, in which order and with what."""

import pytest

import compresskit
from compresskit import Callback, Match, ProgressiveDistiller, RecipeError, Stage


class Diary:
    """A callback that notes every call."""

    def __init__(self):
        self.calls, self.details = [], []

    def note(self, name, run, *details):
        self.calls.append(f"{name} {run.stage.name} {run.step}/{run.steps}")
        self.details.append((name, run.global_step, details))


for _name in [name for name in vars(Callback) if name.startswith("on_")]:
    setattr(Diary, _name, lambda self, *arguments, name=_name: self.note(name[3:], *arguments))


def stages(**options):
    return [Stage("one", matches=[Match("0")], steps=2, **options), Stage("two", matches=[Match(".")], steps=1)]


def test_begins_and_ends_are_called_in_order(teacher, student, batches):
    diary = Diary()
    distiller = ProgressiveDistiller(teacher, student, stages(every=1), device="cpu")
    result = distiller.fit(batches, evaluate=lambda _: {"score": 1.0}, callbacks=[diary])
    assert diary.calls == [
        "run_begin one 0/0",
        "stage_begin one 0/2",
        "step_begin one 0/2",
        "evaluation_begin one 0/2",
        "evaluation_end one 0/2",
        "step_end one 1/2",
        "step_begin one 1/2",
        "evaluation_begin one 1/2",
        "evaluation_end one 1/2",
        "step_end one 2/2",
        "evaluation_begin one 2/2",
        "evaluation_end one 2/2",
        "stage_end one 2/2",
        "stage_begin two 0/1",
        "step_begin two 0/1",
        "step_end two 1/1",
        "evaluation_begin two 1/1",
        "evaluation_end two 1/1",
        "stage_end two 1/1",
        "run_end two 0/1",
    ]
    by_name = {}
    for name, global_step, details in diary.details:
        by_name.setdefault(name, []).append((global_step, *details))
    assert [record for _, record in by_name["step_end"]] == list(result.history)
    assert [step for step, _ in by_name["step_end"]] == [1, 2, 3]
    assert [metrics["score"] for _, metrics in by_name["evaluation_end"]] == [1.0] * 4
    assert [stage_result for _, stage_result in by_name["stage_end"]] == list(result.stages)


def test_a_callback_does_not_change_a_run(net, batches, state):
    students = net(4, 2), net(4, 2)
    for student, callbacks in zip(students, ([], [Callback()]), strict=True):
        ProgressiveDistiller(net(6, 1), student, stages(), device="cpu").fit(batches, callbacks=callbacks)
    ours, theirs = map(state, students)
    assert all(ours[name].equal(theirs[name]) for name in ours)


class Fails(Callback):
    ended = False

    def on_step_end(self, run, record):
        raise InterruptedError(f"{run.stage.name} {record['step']} {run.is_main} {run.out}")

    def on_run_end(self, run):
        self.ended = run.student is not None


def test_an_error_of_a_callback_ends_the_run_and_the_end_is_called(teacher, student, batches):
    callback = Fails()
    with pytest.raises(InterruptedError, match="one 0 True None"):
        ProgressiveDistiller(teacher, student, stages(), device="cpu").fit(batches, callbacks=[callback])
    assert callback.ended


class Misspelt(Callback):
    def on_steps_end(self, run):
        pass


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (Misspelt(), "Misspelt has 'on_steps_end', which is never called; did you mean 'on_step_end'"),
        (print, "has no method of a callback; known: on_run_begin"),
    ],
)
def test_what_is_no_callback_is_refused(callback, message, teacher, student, batches):
    with pytest.raises(RecipeError, match=message):
        ProgressiveDistiller(teacher, student, stages(), device="cpu").fit(batches, callbacks=[callback])


def test_the_base_class_has_a_public_name():
    assert compresskit.Callback is Callback
