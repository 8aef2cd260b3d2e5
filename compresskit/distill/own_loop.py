"""One stage's objective for a training loop of the user's own: the engine without its loop."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Self

import torch
from torch import Tensor, nn

from compresskit.distill.objective.extra_modules import ExtraModules
from compresskit.distill.objective.models import Models
from compresskit.distill.objective.trace import trace_stages
from compresskit.distill.precision import Precision
from compresskit.distill.spec.stage import Stage
from compresskit.distill.training.bound_stage import BoundStage
from compresskit.distill.training.data_parallel import SynchronizedObjective
from compresskit.errors import RecipeError
from compresskit.nested import device_of


class StageObjective:
    """`with distiller.stage(0) as objective: loss, terms = objective(inputs, targets)`.

    Inside the block the stage's rules hold: what it does not train is frozen, teachers are in eval mode, taps are in
    place, and models run in the distiller's precision, memory format and compilation. On exit both models are as they
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
        extra_modules: ExtraModules,
        steps: int | None,
        open_blocks: "list[StageObjective]",
        precision: Precision,
    ) -> None:
        if not precision.is_resolved:
            raise RecipeError("auto is measured on a batch before a loop of your own: distiller.resolve_auto(batch)")
        self._precision = precision
        self._synchronized: SynchronizedObjective | None = None
        self._open_blocks = open_blocks
        """The distiller's blocks that are open, at most one: each restores what it replaced."""
        self._stages, self._index, self._models, self._extra_modules = stages, index, models, extra_modules
        self._steps = steps or stages[index].steps or 1
        self._bound: BoundStage | None = None
        self._stack = ExitStack()
        self._is_open = self._parameters_read = False
        self._calls = 0
        self._set_modes: Callable[[], None] = lambda: None

    @property
    def stage(self) -> Stage:
        """The stage of this objective."""
        return self._stages[self._index]

    @property
    def step(self) -> int:
        """Current step of the stage, for the schedules, from 0."""
        return min(self._calls // self.stage.accumulate, self._steps - 1)

    @step.setter
    def step(self, value: int) -> None:
        self._calls = value * self.stage.accumulate

    def bind(self, inputs: Any) -> None:
        """Trace a batch's inputs: find shapes, build adapters, find what trains. The models are not changed."""
        check_closed(self._open_blocks, self)
        first = max(0, self._index - 1) if self.stage.train == "between" else self._index
        traces = trace_stages(self._stages[first : self._index + 1], self._models, inputs)
        self._bound = BoundStage(
            self._stages,
            self._index,
            self._models,
            self._extra_modules,
            inputs,
            traces,
            self._steps,
            compiled=bool(self._precision.compile),
        )
        if self._is_open:
            self._enter(self._bound)

    def parameters(self) -> list[nn.Parameter]:
        """Return everything that the stage trains, adapters and losses with parameters included, for an optimizer.

        Raises:
            RecipeError: No batch has been traced yet, so adapters are not built.
        """
        bound = self._bound_stage()
        self._parameters_read = True
        return bound.parameters

    def state_dict(self) -> dict[str, Any]:
        """Return the adapters and losses with parameters of all stages so far: no model's own state has them."""
        return self._extra_modules.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with the adapters and losses of `state`, those of later stages included."""
        self._extra_modules.load_state_dict(state)

    def __enter__(self) -> Self:
        check_closed(self._open_blocks)
        if self._bound is not None:
            self._enter(self._bound)
        self._open_blocks.append(self)
        self._is_open = True
        return self

    def __exit__(self, *error: Any) -> None:
        self._is_open = False
        self._synchronized = None
        self._open_blocks.clear()
        self._stack.close()

    def __call__(self, inputs: Any, targets: Any = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the stage's loss on one batch, to call `.backward()` on, and its unweighted terms, detached.

        Raises:
            RecipeError: It is called outside the `with` block.
        """
        if not self._is_open:
            raise RecipeError("the objective works inside its block: with distiller.stage(0) as objective: ...")
        if self._bound is None:
            self.bind(inputs)
        bound = self._bound_stage()
        if not self._parameters_read and bound.extra_parameters:
            self._parameters_read = True
            warnings.warn(
                f"stage {self.stage.name!r} has adapters or losses with parameters; they learn only if your optimizer "
                "is given objective.parameters(), for which the stage needs a batch: distiller.stage(0, batch)",
                stacklevel=2,
            )
        objective = bound.objective
        objective.step = self.step
        objective.forwards.keep_frozen_in_eval()
        if torch.is_grad_enabled():
            self._set_modes()
        run = objective.values if self._synchronized is None else self._synchronized.values
        with self._precision.autocast(device_of(inputs).type):
            values = run(self._precision.to_memory_format(inputs), targets)
        loss, terms = objective.total(values), {name: value.detach() for name, value in values.items()}
        if torch.is_grad_enabled():
            self._calls += 1
        return loss, terms

    def _enter(self, bound: BoundStage) -> None:
        with ExitStack() as stack:
            stack.enter_context(self._precision.applied_to(*self._models.modules))
            self._set_modes = stack.enter_context(bound.training())
            if self._models.wrapper is not None:
                self._synchronized = SynchronizedObjective(bound)
            self._stack = stack.pop_all()

    def _bound_stage(self) -> BoundStage:
        if self._bound is None:
            raise RecipeError(
                "the stage has seen no batch, so its adapters are not built: give it one, distiller.stage(0, batch)"
            )
        return self._bound


def check_closed(open_blocks: Sequence[StageObjective], but: StageObjective | None = None) -> None:
    """Refuse to work while a block is open: what it freezes for a while would be taken for the user's own wish.

    Raises:
        RecipeError: A block other than `but` is open.
    """
    for block in open_blocks:
        if block is not but:
            raise RecipeError(f"the block of stage {block.stage.name!r} is still open; leave it first")
