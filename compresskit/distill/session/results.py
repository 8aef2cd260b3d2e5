"""What a run and its stages came to."""

from dataclasses import dataclass, field
from typing import Any

from torch import nn


@dataclass(frozen=True, slots=True)
class StageResult:
    """What one stage came to."""

    name: str
    steps: int
    seconds: float
    """Training time of the stage; after a resume, that since the resume."""
    metrics: dict[str, float] = field(default_factory=dict)
    """What `evaluate` said at the stage's end."""
    validation: dict[str, float] = field(default_factory=dict)
    """Means of the stage's terms over the validation data, in eval mode."""
    recalled: float | None = None
    """Share of batches for which the teacher's tensors came from the cache; None without one."""


@dataclass(frozen=True, slots=True)
class Result:
    """What `fit` gives back."""

    student: nn.Module
    """The very object that was passed in, trained; where the last stage averages weights, a copy that has these."""
    history: list[dict[str, Any]]
    """A record a step, as in `metrics.jsonl`."""
    stages: list[StageResult]
    shares: dict[str, float] = field(default_factory=dict)
    """Where the time of this call went: shares of `load`, `teacher`, `student`, `losses`, `backward`, `optimizer` and
    `other`. On a GPU only where it was traced."""
