"""A stage bound to models and a batch: its objective, the models that learn and the parameters that train."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from compresskit.distill.objective.extra_modules import ExtraModules
from compresskit.distill.objective.forwards import Forwards, TeacherCall
from compresskit.distill.objective.models import Models
from compresskit.distill.objective.objective import Objective
from compresskit.distill.objective.trace import Traces, reached_by_previous_stage
from compresskit.distill.spec.stage import Stage
from compresskit.distill.timing import Clock
from compresskit.distill.training.trainable import train_only, trainable_names
from compresskit.errors import within


class BoundStage:
    """One stage of a run, ready to train: the same whether the run's loop, a user's loop or a plan asks for it.

    Args:
        stages: All stages of the run.
        index: Which of them is bound: one that trains "between" needs the one before.
        models: The student and its teachers.
        extra_modules: Keeper of adapters and losses with parameters.
        inputs: Inputs of a batch.
        traces: Traces of the run's stages on that batch.
        steps: Steps of the stage, for its schedules; by default its own.
        cached_teachers: See `Forwards`.
        clock: Clock that adds up the seconds of each phase.
        compiled: Whether the models run through `torch.compile`.

    Raises:
        CompressKitError: The stage does not fit the models: taps, shapes, nodes or globs.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        index: int,
        models: Models,
        extra_modules: ExtraModules,
        inputs: Any,
        traces: Traces,
        steps: int | None = None,
        *,
        cached_teachers: Callable[[Forwards], Mapping[str, TeacherCall]] | None = None,
        clock: Clock | None = None,
        compiled: bool = False,
    ) -> None:
        self.stage = stages[index]
        with within(about=self.stage.name):
            self.objective = Objective(
                self.stage,
                models,
                extra_modules,
                inputs,
                traces,
                steps or self.stage.steps or 1,
                cached_teachers=cached_teachers,
                clock=clock,
                compiled=compiled,
            )
            reached = self.objective.reached_parameters()
            before = reached_by_previous_stage(stages, index, models, traces)
            names = trainable_names(self.stage, models, reached, before)
        self.learners = {name: models.module(name) for name in self.objective.learners}
        """The models that learn, by name."""
        self.trainable = {name: p for name, p in models.parameters(self.objective.learners) if name in names}
        """The parameters of the models that train, by name."""
        self.unreached = self.trainable.keys() - reached
        """Names of trainable parameters that no term reaches: they do not change."""
        self.extra_parameters = self.objective.extra_parameters()
        """The parameters of adapters and losses, by name, which train beside the models."""

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Everything that trains: what an optimizer is given."""
        return [*self.trainable.values(), *self.extra_parameters.values()]

    @property
    def modules(self) -> dict[str, nn.Module]:
        """Everything that learns, by name: the models, and the adapters and losses with parameters."""
        return {**self.learners, **{f"beside {n}": module for n, module in enumerate(self.objective.modules())}}

    @contextmanager
    def training(self) -> Iterator[Callable[[], None]]:
        """Place the taps and let only this stage's parameters train, inside the block; restore the models on exit.

        Yields:
            A function that sets the modes of training again, after a loop has called `train()` or `eval()`.
        """
        with train_only(self.learners, self.stage, self.trainable) as set_modes, self.objective:
            yield set_modes
