"""Curricula with more than two models: assistants, a teacher's own route, anchors, and teachers that train along."""

from collections.abc import Sequence
from typing import Any

from compresskit.distill.curricula.lengths import lengths
from compresskit.distill.spec.address import PREVIOUS, STUDENT, split_model
from compresskit.distill.spec.match import Match, Task, changed
from compresskit.distill.spec.stage import Stage
from compresskit.errors import RecipeError


def assistants(
    chain: Sequence[str],
    matches: Sequence[Match],
    *,
    steps: int | Sequence[int],
    tasks: Sequence[Task] = (),
    **stage_options: Any,
) -> tuple[Stage, ...]:
    """A chain of models, each taught by the one before it; the student comes last.

    `assistants(["large", "middle"], ...)` has two stages: large teaches middle, then middle teaches the student. The
    distiller is given both as teachers, `{"large": ..., "middle": ...}`; middle is trained in place.

    Args:
        chain: Names of the teacher and of the assistants, from the largest to the smallest.
        matches: What each learns from the one before: addresses without a model's name, which all models have; or in
            all of them the same ones, such as `"."`.
        steps: Optimizer steps of each stage: one number for all, or as many as the chain has names.
        tasks: Supervised terms, of each stage.
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


def route(
    teachers: Sequence[str],
    matches: Sequence[Match],
    *,
    steps: int | Sequence[int],
    tasks: Sequence[Task] = (),
    **stage_options: Any,
) -> tuple[Stage, ...]:
    """The student follows the route that its teacher took: one stage for each checkpoint of the teacher, in order.

    Args:
        teachers: Names under which the distiller knows the checkpoints, from the earliest to the last: they are several
            teachers, `{"early": ..., "late": ...}`.
        matches: What the student learns from each, by addresses without a model's name.
        steps: Optimizer steps of each stage: one number for all, or one for each checkpoint.
        tasks: Supervised terms, of each stage.
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


def anchored(
    methods: Sequence[Sequence[Match]],
    *,
    anchor: Match,
    steps: int | Sequence[int],
    tasks: Sequence[Task] = (),
    **stage_options: Any,
) -> tuple[Stage, ...]:
    """One method of distillation after the other, each held near what the student was when its stage began.

    Args:
        methods: The matches of each stage.
        anchor: A match of the student with itself, by an address without a model's name: from the second stage on, the
            frozen copy of the student from the stage's beginning is its teacher.
        steps: Optimizer steps of each stage: one number for all, or one for each method.
        tasks: Supervised terms, of each stage.
        stage_options: Further fields of all stages.

    Raises:
        RecipeError: There are no methods, the anchor's address names a model, or the steps do not fit.

    Source: after *SMSKD: Sequential Multi-Stage Knowledge Distillation*, 2026 (arXiv 2601.15657), without its weights
        by sample.
    """
    if not methods:
        raise RecipeError("methods: anchored needs at least one list of matches", path=("methods",))
    held = _between(anchor, STUDENT, PREVIOUS)
    return tuple(
        Stage(
            f"method-{k + 1}",
            matches=[*matches, *([held] if k else [])],
            tasks=tasks,
            steps=count,
            **stage_options,
        )
        for k, (matches, count) in enumerate(zip(methods, lengths(steps, len(methods), "methods"), strict=True))
    )


def together(
    matches: Sequence[Match],
    *,
    teacher: str = "teacher",
    mutual: bool = False,
    steps: int,
    tasks: Sequence[Task],
    **stage_options: Any,
) -> tuple[Stage, ...]:
    """One stage in which the teacher trains along: on the tasks, as the student does.

    Args:
        matches: What the student learns from the teacher, by addresses without a model's name.
        teacher: The teacher's name.
        mutual: Whether the teacher also learns from the student, by the same matches the other way round.
        steps: Optimizer steps.
        tasks: Supervised terms, of both.
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
        both += [_reversed(match, teacher) for match in matches]
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
    """The match with its sides in these models."""
    return changed(match, student=_at(match.student, learner), teacher=_at(match.teacher, teacher))


def _reversed(match: Match, teacher: str) -> Match:
    if match.adapter not in ("auto", None):
        raise RecipeError(f"{match.name}: an adapter of your own leads one way, and mutual learning goes both")
    return changed(match, student=_at(match.teacher, teacher), teacher=_named(_at(match.student, STUDENT)))


def _named(side: Any) -> Any:
    """The student's addresses with its name, as the teacher's side needs it."""
    return f"{STUDENT}:{side}" if isinstance(side, str) else tuple(_named(address) for address in side)


def _of(task: Task, learner: str) -> Task:
    return changed(task, student=_at(task.student, learner))


def _at(side: Any, model: str) -> Any:
    """An address, or several, in `model`; the student's are written without its name."""
    if not isinstance(side, str):
        return tuple(_at(address, model) for address in side)
    if split_model(side)[0]:
        raise RecipeError(
            f"{side!r}: this curriculum says itself which model is meant; give the address alone", about=(side,)
        )
    return side if model == STUDENT else f"{model}:{side}"
