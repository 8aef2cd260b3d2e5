"""Curricula with at most one teacher: all matches at once, hints first, or point by point."""

from collections.abc import Sequence
from typing import Any

from compresskit.distill.curricula.lengths import lengths, stage_name
from compresskit.distill.spec.match import Match, Task
from compresskit.distill.spec.misplaced import counted_in_steps
from compresskit.distill.spec.stage import Stage
from compresskit.errors import RecipeError, close_names


@counted_in_steps
def joint(
    matches: Sequence[Match], *, steps: int, tasks: Sequence[Task] = (), **stage_options: Any
) -> tuple[Stage, ...]:
    """Return one stage with all matches and tasks, in which everything trains: plain distillation.

    Args:
        matches: The points to imitate.
        steps: Optimizer steps.
        tasks: Supervised terms.
        stage_options: Further fields of the stage.

    Raises:
        RecipeError: The steps are not a whole number, or there are neither matches nor tasks.

    Source: with one match of the outputs by `kl` and a task, Hinton, Vinyals & Dean, *Distilling the Knowledge in a
        Neural Network*, 2015.
    """
    return (Stage("joint", matches=matches, tasks=tasks, steps=steps, **stage_options),)


@counted_in_steps
def fitnets(
    hints: Sequence[Match],
    matches: Sequence[Match],
    *,
    steps: int | Sequence[int],
    tasks: Sequence[Task] = (),
    **stage_options: Any,
) -> tuple[Stage, ...]:
    """Return a stage in which the student up to its guided layers learns from hints, and one for the whole student.

    Args:
        hints: Matches of features, for the first stage only. Their adapters are the paper's regressors.
        matches: Matches of the second stage, usually of the outputs.
        steps: Optimizer steps of the two stages: one number for both, or two.
        tasks: Supervised terms of the second stage.
        stage_options: Further fields of both stages.

    Raises:
        RecipeError: There are no hints, or the steps do not fit.

    Source: Romero et al., *FitNets: Hints for Thin Deep Nets*, ICLR 2015.
    """
    if not hints:
        raise RecipeError("hints: fitnets needs at least one", path=("hints",))
    first, second = lengths(steps, 2, "stages")
    return (
        Stage("hints", matches=hints, train="upstream", steps=first, **stage_options),
        Stage("distillation", matches=matches, tasks=tasks, steps=second, **stage_options),
    )


@counted_in_steps
def progressive(
    matches: Sequence[Match],
    *,
    steps: int | Sequence[int],
    mode: str = "cumulative",
    tasks: Sequence[Task] = (),
    **stage_options: Any,
) -> tuple[Stage, ...]:
    """Return stages that add one match after the other; in the last one everything trains, and the tasks join.

    Args:
        matches: The matches in the order in which they are learned, from the input to the output.
        steps: Optimizer steps of each stage: one number for all, or one for each match.
        mode: `"cumulative"` keeps the earlier matches and trains all parameters that feed them ("upstream");
            `"isolated"` has the new match alone and trains the parameters past the previous match ("between").
        tasks: Supervised terms of the last stage.
        stage_options: Further fields of all stages: `optimizer`, `scheduler`, `clip`, `accumulate`, `freeze`, ….

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
        raise RecipeError(f"mode: unknown {mode!r}{close_names(str(mode), ('cumulative', 'isolated'))}", path=("mode",))
    if not matches:
        raise RecipeError("matches: progressive needs at least one", path=("matches",))
    counts = lengths(steps, len(matches), "matches")
    stages = []
    for k, (match, count) in enumerate(zip(matches, counts, strict=True)):
        last = k == len(matches) - 1
        stages.append(
            Stage(
                name=stage_name(k, match.student),
                matches=tuple(matches[: k + 1]) if mode == "cumulative" else (match,),
                tasks=tuple(tasks) if last else (),
                train=("*",) if last else "upstream" if mode == "cumulative" else "between",
                steps=count,
                **stage_options,
            )
        )
    return tuple(stages)


@counted_in_steps
def in_turn(tasks: Sequence[Task], *, steps: int | Sequence[int], **stage_options: Any) -> tuple[Stage, ...]:
    """Return stages without a teacher: one task after the other, each training all parameters that feed it.

    A coarse-to-fine network learns level by level like this, each level on top of those below.

    Args:
        tasks: The tasks in the order in which they are learned.
        steps: Optimizer steps of each stage: one number for all, or one for each task.
        stage_options: Further fields of all stages: `optimizer`, `scheduler`, `clip`, `accumulate`, `freeze`, ….

    Returns:
        As many stages as tasks, named by the student's tap.

    Raises:
        RecipeError: There are no tasks, or the steps do not fit them.
    """
    if not tasks:
        raise RecipeError("tasks: in_turn needs at least one", path=("tasks",))
    return tuple(
        Stage(name=stage_name(k, task.student), tasks=(task,), train="upstream", steps=count, **stage_options)
        for k, (task, count) in enumerate(zip(tasks, lengths(steps, len(tasks), "tasks"), strict=True))
    )
