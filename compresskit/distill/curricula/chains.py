"""Curricula with more than two models: assistants, checkpoints of a teacher, anchors, and teachers that train along."""

from collections.abc import Sequence
from typing import Any

from compresskit.distill.curricula.lengths import lengths
from compresskit.distill.spec.address import PREVIOUS, STUDENT, split_model
from compresskit.distill.spec.match import Match, Task, replace_fields
from compresskit.distill.spec.misplaced import counted_in_steps
from compresskit.distill.spec.stage import Stage
from compresskit.errors import RecipeError


@counted_in_steps
def assistants(
    chain: Sequence[str],
    matches: Sequence[Match],
    *,
    steps: int | Sequence[int],
    tasks: Sequence[Task] = (),
    **stage_options: Any,
) -> tuple[Stage, ...]:
    """Return a stage for each model of a chain, in which it learns from the model before; the student comes last.

    `assistants(["large", "middle"], ...)` has two stages: large teaches middle, then middle teaches the student. Pass
    both to the distiller as teachers, `{"large": ..., "middle": ...}`; middle is trained in place.

    Args:
        chain: Names of the teacher and of the assistants, from the largest to the smallest.
        matches: Matches of each model with the one before, by addresses without a model's name: each address, such as
            `"."`, must be in all models that it is read in.
        steps: Optimizer steps of each stage: one number for all, or as many as the chain has names.
        tasks: Supervised terms of each stage.
        stage_options: Further fields of all stages.

    Raises:
        RecipeError: The chain is too short or names a model twice, an address names a model, or the steps do not fit.

    Source: Mirzadeh et al., *Improved Knowledge Distillation via Teacher Assistant*, AAAI 2020.
    """
    _check_names(chain, "chain", "assistants", 2)
    stages = []
    learners = [*chain[1:], STUDENT]
    for teacher, learner, count in zip(chain, learners, lengths(steps, len(chain), "stages"), strict=True):
        stages.append(
            Stage(
                f"{teacher}-teaches-{learner}",
                matches=[_between(match, learner, teacher) for match in matches],
                tasks=[_of(task, learner) for task in tasks],
                steps=count,
                **stage_options,
            )
        )
    return tuple(stages)


@counted_in_steps
def route(
    teachers: Sequence[str],
    matches: Sequence[Match],
    *,
    steps: int | Sequence[int],
    tasks: Sequence[Task] = (),
    **stage_options: Any,
) -> tuple[Stage, ...]:
    """Return a stage for each checkpoint of the teacher, so that the student follows the route of its training.

    Args:
        teachers: Names of the checkpoints, from the earliest to the last. Pass the checkpoints to the distiller as
            several teachers, `{"early": ..., "late": ...}`.
        matches: Matches of the student with each checkpoint, by addresses without a model's name.
        steps: Optimizer steps of each stage: one number for all, or one for each checkpoint.
        tasks: Supervised terms of each stage.
        stage_options: Further fields of all stages.

    Raises:
        RecipeError: There are no checkpoints, one is named twice, an address names a model, or the steps do not fit.

    Source: Jin et al., *Knowledge Distillation via Route Constrained Optimization*, ICCV 2019; with as many checkpoints
        as epochs, Rezagholizadeh et al., *Pro-KD: Progressive Distillation by Following the Footsteps of the Teacher*,
        COLING 2022.
    """
    _check_names(teachers, "teachers", "route", 1)
    return tuple(
        Stage(
            f"{k + 1}-{teacher}",
            matches=[_between(match, STUDENT, teacher) for match in matches],
            tasks=tasks,
            steps=count,
            **stage_options,
        )
        for k, (teacher, count) in enumerate(zip(teachers, lengths(steps, len(teachers), "checkpoints"), strict=True))
    )


@counted_in_steps
def anchored(
    methods: Sequence[Sequence[Match]],
    *,
    anchor: Match,
    steps: int | Sequence[int],
    tasks: Sequence[Task] = (),
    **stage_options: Any,
) -> tuple[Stage, ...]:
    """Return a stage for each method of distillation, anchored to the student as it was when the stage began.

    Args:
        methods: The matches of each stage.
        anchor: A match of the student with itself, by an address without a model's name. It joins from the second stage
            on, and its teacher is a frozen copy of the student from the stage's beginning.
        steps: Optimizer steps of each stage: one number for all, or one for each method.
        tasks: Supervised terms of each stage.
        stage_options: Further fields of all stages.

    Raises:
        RecipeError: There are no methods, the anchor's address names a model, or the steps do not fit.

    Source: after *SMSKD: Sequential Multi-Stage Knowledge Distillation*, 2026 (arXiv 2601.15657), without its weights
        for each sample.
    """
    if not methods:
        raise RecipeError("methods: anchored needs at least one list of matches", path=("methods",))
    anchor_match = _between(anchor, STUDENT, PREVIOUS)
    return tuple(
        Stage(
            f"method-{k + 1}",
            matches=[*matches, *([anchor_match] if k else [])],
            tasks=tasks,
            steps=count,
            **stage_options,
        )
        for k, (matches, count) in enumerate(zip(methods, lengths(steps, len(methods), "methods"), strict=True))
    )


@counted_in_steps
def together(
    matches: Sequence[Match],
    *,
    teacher: str = "teacher",
    mutual: bool = False,
    steps: int,
    tasks: Sequence[Task],
    **stage_options: Any,
) -> tuple[Stage, ...]:
    """Return one stage in which the teacher trains along, on the same tasks as the student.

    Args:
        matches: Matches of the student with the teacher, by addresses without a model's name.
        teacher: Name of the teacher.
        mutual: Let the teacher learn from the student too, by the same matches the other way round.
        steps: Optimizer steps.
        tasks: Supervised terms of both models.
        stage_options: Further fields of the stage.

    Raises:
        RecipeError: There are no tasks, or an address names a model.

    Source: with `mutual`, Zhang et al., *Deep Mutual Learning*, CVPR 2018; a teacher that also keeps near its student
        is the idea of Shi et al., *Follow Your Path: A Progressive Method for Knowledge Distillation*, 2021.
    """
    if not tasks:
        raise RecipeError("tasks: together needs at least one; the teacher learns from it", path=("tasks",))
    both = [_between(match, STUDENT, teacher) for match in matches]
    if mutual:
        both += [_reverse(match, teacher) for match in matches]
    own = [*tasks, *(_of(task, teacher) for task in tasks)]
    return (Stage("together", matches=both, tasks=own, steps=steps, **stage_options),)


def _check_names(names: Any, field: str, curriculum: str, least: int) -> None:
    if isinstance(names, str) or not isinstance(names, Sequence) or len(names) < least:
        raise RecipeError(
            f"{field}: {curriculum} needs at least {least} models' names in a list, got {names!r}", path=(field,)
        )
    if len(set(names)) < len(names):
        raise RecipeError(f"{field}: {', '.join(names)} names a model twice", path=(field,))


def _between(match: Match, learner: str, teacher: str) -> Match:
    """Return the match with its sides in these models."""
    return replace_fields(match, student=_at(match.student, learner), teacher=_at(match.teacher, teacher))


def _reverse(match: Match, teacher: str) -> Match:
    if match.adapter not in ("auto", None):
        raise RecipeError(f"{match.name}: an adapter of your own leads one way, and mutual learning goes both")
    student = _with_student(_at(match.student, STUDENT))
    return replace_fields(match, student=_at(match.teacher, teacher), teacher=student)


def _with_student(side: Any) -> Any:
    """Return addresses of the student with its name before them, as the teacher's side needs it."""
    return f"{STUDENT}:{side}" if isinstance(side, str) else tuple(_with_student(address) for address in side)


def _of(task: Task, learner: str) -> Task:
    return replace_fields(task, student=_at(task.student, learner))


def _at(side: Any, model: str) -> Any:
    """Return an address, or several, in `model`; those in the student have no name before them."""
    if not isinstance(side, str):
        return tuple(_at(address, model) for address in side)
    if split_model(side)[0]:
        raise RecipeError(
            f"{side!r}: this curriculum says itself which model is meant; give the address alone", about=(side,)
        )
    return side if model == STUDENT else f"{model}:{side}"
