"""Callbacks: functions of the user's that a run calls where it, a stage, a step or an evaluation begins and ends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from compresskit.distill.session.results import StageResult
from compresskit.distill.spec.stage import Stage
from compresskit.errors import RecipeError, close_names


@dataclass(slots=True)
class RunState:
    """A run as callbacks see it."""

    student: nn.Module
    teachers: Mapping[str, nn.Module]
    stages: tuple[Stage, ...]
    out: Path | None = None
    """Folder of the run, or None."""
    is_main: bool = True
    """True in the one process of several that writes files and prints."""
    index: int = 0
    """Number of the present stage, from 0."""
    step: int = 0
    """Optimizer steps of the present stage that are done."""
    steps: int = 0
    """Optimizer steps of the present stage in all."""
    global_step: int = 0
    """Optimizer steps of the run that are done."""

    @property
    def stage(self) -> Stage:
        """The present stage."""
        return self.stages[self.index]


class Callback:
    """A base class for callbacks, whose methods do nothing. Any object with some of these methods will do.

    Every process of a run calls them; `run.is_main` is true in one. Random numbers that they draw are the run's own, so
    a callback that draws some changes what follows.
    """

    def on_run_begin(self, run: RunState) -> None:
        """Do something before the first step of this call of `fit`."""

    def on_run_end(self, run: RunState) -> None:
        """Do something at the end, also where an error or Ctrl-C ends the run."""

    def on_stage_begin(self, run: RunState) -> None:
        """Do something before the first step of a stage, or the first after a run was continued."""

    def on_stage_end(self, run: RunState, result: StageResult) -> None:
        """Do something with the result of a stage."""

    def on_step_begin(self, run: RunState) -> None:
        """Do something before an optimizer step."""

    def on_step_end(self, run: RunState, record: Mapping[str, Any]) -> None:
        """Do something with the record of a step, as `metrics.jsonl` has it: terms, learning rate, samples a second."""

    def on_evaluation_begin(self, run: RunState) -> None:
        """Do something before an evaluation, inside a stage or at its end."""

    def on_evaluation_end(self, run: RunState, metrics: Mapping[str, float]) -> None:
        """Do something with the metrics of an evaluation: the means of the terms on validation data, and the user's."""


_NAMES = tuple(name for name in vars(Callback) if name.startswith("on_"))


class Callbacks:
    """The callbacks of one run, called in their order.

    Args:
        callbacks: Objects with some of the methods of `Callback`.
        state: The run as they see it, which the run keeps up to date.

    Raises:
        RecipeError: An object has none of the methods, or one with a name that is never called.
    """

    def __init__(self, callbacks: Sequence[Any], state: RunState) -> None:
        self.state = state
        self._methods: dict[str, list[Any]] = {name: [] for name in _NAMES}
        for callback in callbacks:
            unknown = [name for name in dir(callback) if name.startswith("on_") and name not in _NAMES]
            if unknown:
                kind = type(callback).__name__
                raise RecipeError(
                    f"callbacks: {kind} has {unknown[0]!r}, which is never called{close_names(unknown[0], _NAMES)}"
                )
            own = [name for name in _NAMES if hasattr(callback, name)]
            if not own:
                kind = type(callback).__name__
                raise RecipeError(f"callbacks: {kind} has no method of a callback; known: {', '.join(_NAMES)}")
            for name in own:
                self._methods[name].append(getattr(callback, name))

    def notify(self, name: str, *arguments: Any) -> None:
        """Call the method `name` of every callback that has it."""
        for method in self._methods[name]:
            method(self.state, *arguments)
