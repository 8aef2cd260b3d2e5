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
    if not isinstance(steps, (int, Sequence)) or isinstance(steps, str):
        raise RecipeError(f"steps must be a whole number, or one for each match, got {steps!r}")
    if not matches:
        raise RecipeError("matches: progressive needs at least one")
    counts = [steps] * len(matches) if isinstance(steps, int) else list(steps)
    if len(counts) != len(matches):
        raise RecipeError(f"steps: {len(counts)} numbers for {len(matches)} matches; give one number, or one for each")
    stages = []
    for k, (match, count) in enumerate(zip(matches, counts, strict=True)):
        last = k == len(matches) - 1
        stages.append(
            Stage(
                name=f"{k + 1}-{'output' if match.student == '.' else match.student}",
                matches=tuple(matches[: k + 1]) if mode == "cumulative" else (match,),
                tasks=tuple(tasks) if last else (),
                train=("*",) if last else "upstream" if mode == "cumulative" else "between",
                steps=count,
                **stage_options,
            )
        )
    return tuple(stages)
