"""Annealing: the teacher's soft outputs grow sharp, then the tasks alone remain."""

from collections.abc import Sequence
from typing import Any

from compresskit.distill.curricula.lengths import lengths
from compresskit.distill.spec.match import Match, Task, replace_fields
from compresskit.distill.spec.misplaced import counted_in_steps
from compresskit.distill.spec.stage import Stage
from compresskit.errors import RecipeError


@counted_in_steps
def annealed(
    matches: Sequence[Match],
    *,
    steps: int | Sequence[int],
    tasks: Sequence[Task],
    temperature: float = 8.0,
    **stage_options: Any,
) -> tuple[Stage, ...]:
    """Return a stage in which the matches' temperature falls to 1, and a second stage with the tasks alone.

    Args:
        matches: Matches of outputs, by losses that have a `temperature`, such as `kl`.
        steps: Optimizer steps of the two stages: one number for both, or two.
        tasks: Supervised terms of the second stage.
        temperature: Temperature of the first step, at least 1.
        stage_options: Further fields of both stages.

    Raises:
        RecipeError: A match's loss has no temperature, there are no tasks, or the steps do not fit.

    Source: after Jafari et al., *Annealing Knowledge Distillation*, EACL 2021, which regresses logits scaled by a
        factor that rises to 1 stepwise; here the loss is the match's own, and its temperature falls at each optimizer
        step.
    """
    if temperature < 1:
        raise RecipeError(f"temperature starts at 1 or above, got {temperature}", path=("temperature",))
    if not matches or not tasks:
        raise RecipeError(f"{'tasks' if matches else 'matches'}: annealed needs at least one")
    first, second = lengths(steps, 2, "stages")
    falling = {"schedule": "linear", "start": float(temperature), "end": 1.0}
    return (
        Stage("annealing", [replace_fields(m, temperature=falling) for m in matches], steps=first, **stage_options),
        Stage("truth", tasks=tasks, steps=second, **stage_options),
    )
