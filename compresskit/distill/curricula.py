"""Curricula: rules that turn a few match points into stages."""

from collections.abc import Sequence
from typing import Any

from compresskit.distill.stage import Match, Stage, Task
from compresskit.errors import RecipeError, close_names


def progressive(
    matches: Sequence[Match],
    *,
    steps: int | Sequence[int],
    mode: str = "cumulative",
    tasks: Sequence[Task] = (),
    **stage_options: Any,
) -> tuple[Stage, ...]:
    """Stages that add one match point after the other; in the last one everything trains, and the tasks join.

    Args:
        matches: The points in the order in which they are learned, from the input to the output.
        steps: Optimizer steps of each stage: one number for all, or one for each match.
        mode: `"cumulative"` keeps the earlier matches and trains all that feeds them ("upstream"); `"isolated"` has
            the new match alone and trains only what lies past the previous one ("between").
        tasks: Supervised terms of the last stage.
        stage_options: What each stage shares: `optimizer`, `scheduler`, `clip`, `accumulate`, `freeze`.

    Returns:
        As many stages as matches, named by the student's tap.

    Raises:
        RecipeError: The mode is unknown, there are no matches, or the steps do not fit them.

    Source: with `"cumulative"` and `"isolated"` this is stage-by-stage feature mimicking: Gao et al., *An
        Embarrassingly Simple Approach for Knowledge Distillation*, 2018, and Kulkarni et al., *Data Efficient
        Stagewise Knowledge Distillation*, 2019. (Salimans & Ho's progressive distillation of diffusion samplers
        shares only the name.)
    """
    if mode not in ("cumulative", "isolated"):
        raise RecipeError(f"mode: unknown {mode!r}{close_names(str(mode), ('cumulative', 'isolated'))}")
    if not matches:
        raise RecipeError("matches: progressive needs at least one")
    counts = _counts(steps, len(matches), "matches")
    stages = []
    for k, (match, count) in enumerate(zip(matches, counts, strict=True)):
        last = k == len(matches) - 1
        stages.append(
            Stage(
                name=_name(k, match.student),
                matches=tuple(matches[: k + 1]) if mode == "cumulative" else (match,),
                tasks=tuple(tasks) if last else (),
                train=("*",) if last else "upstream" if mode == "cumulative" else "between",
                steps=count,
                **stage_options,
            )
        )
    return tuple(stages)


def in_turn(tasks: Sequence[Task], *, steps: int | Sequence[int], **stage_options: Any) -> tuple[Stage, ...]:
    """Stages without a teacher: one task after the other, each training all that feeds it.

    So a coarse-to-fine network learns level by level, each level on top of those below.

    Args:
        tasks: In the order in which they are learned.
        steps: Optimizer steps of each stage: one number for all, or one for each task.
        stage_options: What each stage shares: `optimizer`, `scheduler`, `clip`, `accumulate`, `freeze`.

    Returns:
        As many stages as tasks, named by the student's tap.

    Raises:
        RecipeError: There are no tasks, or the steps do not fit them.
    """
    if not tasks:
        raise RecipeError("tasks: in_turn needs at least one")
    return tuple(
        Stage(name=_name(k, task.student), tasks=(task,), train="upstream", steps=count, **stage_options)
        for k, (task, count) in enumerate(zip(tasks, _counts(steps, len(tasks), "tasks"), strict=True))
    )


def _counts(steps: Any, length: int, what: str) -> list[int]:
    if isinstance(steps, int):
        return [steps] * length
    if isinstance(steps, str) or not isinstance(steps, Sequence):
        raise RecipeError(f"steps must be a whole number, or one for each of the {what}, got {steps!r}")
    if len(steps) != length:
        raise RecipeError(f"steps: {len(steps)} numbers for {length} {what}; give one number, or one for each")
    return list(steps)


def _name(number: int, address: str) -> str:
    return f"{number + 1}-{'output' if address == '.' else address}"
