"""Where a run stands, and how long its stages are."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from compresskit.distill.stage import Stage
from compresskit.errors import RecipeError


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run stands."""

    stage: int = 0
    step: int = 0
    """Optimizer steps done in the stage."""
    global_step: int = 0
    """Optimizer steps done in all."""
    batches: int = 0
    """Batches consumed in all."""


def steps_of(stage: Stage, loader: Iterable[Any]) -> int:
    """Optimizer steps of a stage.

    Raises:
        RecipeError: The stage is in epochs, and the loader has no length.
    """
    if stage.steps is not None:
        return stage.steps
    try:
        batches = len(loader)  # pyright: ignore[reportArgumentType]
    except TypeError:
        raise RecipeError(f"stage {stage.name!r}: epochs need a loader with a length; give steps") from None
    return (stage.epochs or 1) * -(-batches // stage.accumulate)
