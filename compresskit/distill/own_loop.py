"""One stage's objective for a training loop of the user's own: the engine without its loop."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Self

import torch
from torch import Tensor, nn

from compresskit.distill.objective.extra_modules import ExtraModules
from compresskit.distill.objective.models import Models
from compresskit.distill.objective.objective import Objective
from compresskit.distill.precision import Precision
from compresskit.distill.spec.stage import Stage
from compresskit.distill.training.data_parallel import SynchronizedObjective
from compresskit.distill.training.trainable import reached_by_previous_stage, train_only, trainable_names
from compresskit.errors import RecipeError
from compresskit.nested import inputs_device


class StageObjective:
    """`with distiller.stage(0) as objective: loss, terms = objective(inputs, targets)`.

    Inside the block the stage's rules hold: what it does not train is frozen, teachers are in eval mode, taps are in
    place, and models run in the distiller's precision, layout and compilation. On the way out both models are as they
    were, but for what has been trained. The optimizer, its steps and everything around them are yours, the scaling of
    an fp16 loss included. `student.train()` and `student.eval()` may be called as in any loop: a call with gradients
    first sets the stage's modes again, a call without leaves the student's as they are.

    Schedules advance by one step after each `accumulate` calls with gradients; set `step` to say otherwise.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        index: int,
        models: Models,
        learned: ExtraModules,
        steps: int | None,
        opened: "list[StageObjective]",
        precision: Precision,
    ) -> None:
        if not precision.is_resolved:
            raise RecipeError("auto is measured on a batch before a loop of your own: distiller.settle(batch)")
        self._precision = precision
        self._synchronized: SynchronizedObjective | None = None
        self._opened = opened
        """The distiller's blocks that are open, at most one: each puts back what it found."""
        self._stages, self._index, self._models, self._learned = stages, index, models, learned
        self._steps = steps or stages[index].steps or 1
        self._objective: Objective | None = None
        self._names: set[str] = set()
        self._stack = ExitStack()
        self._inside = self._asked = False
        self._calls = 0
        self._set_modes: Callable[[], None] = lambda: None

    @property
    def stage(self) -> Stage:
        """The stage whose objective this is."""
        return self._stages[self._index]

    @property
    def step(self) -> int:
        """Where in the stage the schedules stand, from 0."""
        return min(self._calls // self.stage.accumulate, self._steps - 1)

    @step.setter
    def step(self, value: int) -> None:
        self._calls = value * self.stage.accumulate

    def bind(self, inputs: Any) -> None:
        """Trace a batch's inputs: find shapes, build adapters, find what trains. Changes nothing in the models."""
        check_closed(self._opened, self)
        compiled = bool(self._precision.compile)
        objective = Objective(self.stage, self._models, self._learned, inputs, self._steps, compiled=compiled)
        before = reached_by_previous_stage(self._stages, self._index, self._models, inputs)
        self._names = trainable_names(self.stage, self._models, objective.reached_parameters(), before)
        self._objective = objective
        if self._inside:
            self._enter(objective)

    def parameters(self) -> list[nn.Parameter]:
        """All that the stage trains, adapters and losses with parameters included: what an optimizer should be given.

        Raises:
            RecipeError: No batch has been traced yet, so adapters are not built.
        """
        objective = self._bound()
        self._asked = True
        return [*self._trained(objective).values(), *objective.extra_parameters().values()]

    def state_dict(self) -> dict[str, Any]:
        """Adapters and losses with parameters, of all stages of the distiller so far: no model's own state has them."""
        return self._learned.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the adapters and losses of `state`, those of later stages included."""
        self._learned.load_state_dict(state)

    def __enter__(self) -> Self:
        check_closed(self._opened)
        if self._objective is not None:
            self._enter(self._objective)
        self._opened.append(self)
        self._inside = True
        return self

    def __exit__(self, *error: Any) -> None:
        self._inside = False
        self._synchronized = None
        self._opened.clear()
        self._stack.close()

    def __call__(self, inputs: Any, targets: Any = None) -> tuple[Tensor, dict[str, Tensor]]:
        """The stage's loss on one batch, to call `.backward()` on, and its unweighted terms, detached.

        Raises:
            RecipeError: It is called outside the `with` block.
        """
        if not self._inside:
            raise RecipeError("the objective works inside its block: with distiller.stage(0) as objective: ...")
        if self._objective is None:
            self.bind(inputs)
        objective = self._bound()
        if not self._asked and objective.extra_parameters():
            self._asked = True
            warnings.warn(
                f"stage {self.stage.name!r} has adapters or losses with parameters; they learn only if your optimizer "
                "is given objective.parameters(), for which the stage needs a batch: distiller.stage(0, batch)",
                stacklevel=2,
            )
        objective.step = self.step
        objective.forwards.keep_frozen_in_eval()
        if torch.is_grad_enabled():
            self._set_modes()
        run = objective.values if self._synchronized is None else self._synchronized.values
        with self._precision.autocast(inputs_device(inputs)):
            values = run(self._precision.to_memory_format(inputs), targets)
        loss, terms = objective.total(values), {name: value.detach() for name, value in values.items()}
        if torch.is_grad_enabled():
            self._calls += 1
        return loss, terms

    def _enter(self, objective: Objective) -> None:
        learners = {name: self._models.module(name) for name in objective.learners}
        with ExitStack() as stack:
            stack.enter_context(self._precision.applied_to(self._models.student, *self._models.teachers.values()))
            self._set_modes = stack.enter_context(train_only(learners, self.stage, self._names))
            stack.enter_context(objective)
            if self._models.wrapper is not None:
                self._synchronized = SynchronizedObjective(objective, self._trained(objective))
            self._stack = stack.pop_all()

    def _trained(self, objective: Objective) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self._models.parameters(objective.learners) if name in self._names}

    def _bound(self) -> Objective:
        if self._objective is None:
            raise RecipeError(
                "the stage has seen no batch, so its adapters are not built: give it one, distiller.stage(0, batch)"
            )
        return self._objective


def check_closed(opened: Sequence[StageObjective], but: StageObjective | None = None) -> None:
    """Raise a RecipeError if a block is open: what it freezes for a while would be taken for the user's own wish."""
    for loop in opened:
        if loop is not but:
            raise RecipeError(f"the block of stage {loop.stage.name!r} is still open; leave it first")
