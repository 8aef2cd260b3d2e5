"""Results of a run and of its stages."""

from dataclasses import dataclass, field

from torch import nn

from compresskit.distill.session.history import History


@dataclass(frozen=True, slots=True)
class StageResult:
    """The result of one stage."""

    name: str
    steps: int
    seconds: float
    """Training time of the stage; after a resume, the time since the resume."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Metrics that `evaluate` measured at the stage's end."""
    validation: dict[str, float] = field(default_factory=dict)
    """Means of the stage's terms over the validation data, in eval mode."""
    recalled: float | None = None
    """Share of batches for which the teacher's tensors came from the cache; None without one."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of `fit`."""

    student: nn.Module
    """The object that was passed in, trained; where the last stage averages weights, a copy that has these."""
    history: History
    """Records as in `metrics.jsonl`: one a step where the run has a folder, thinned after some thousands where not."""
    stages: list[StageResult]
    shares: dict[str, float] = field(default_factory=dict)
    """Shares of this call's time: `load`, `teacher`, `student`, `losses`, `backward`, `optimizer`, `other`. On a GPU
    only where it was profiled."""
