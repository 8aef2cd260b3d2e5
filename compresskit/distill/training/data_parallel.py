"""A stage's objective in several processes: gradients are averaged while a backward runs, as torch's DDP does it.

DDP wants a module whose forward makes everything that is differentiated and whose parameters are those that train. A
student that stops after its last tap is no such module; the whole objective is one. Therefore DDP wraps the objective
during a stage, and the user's models stay as they are.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from compresskit.data import SampleId
from compresskit.distill.objective.objective import Objective
from compresskit.distill.training.bound_stage import BoundStage
from compresskit.errors import RecipeError, TrainingError

_ADVICE = (
    ", unlike in the first batch. Several processes then need\n"
    "DistributedDataParallel(student, find_unused_parameters=True) as the student"
)


class SynchronizedObjective:
    """`Objective.values` under DDP: after the backward, every process has the mean of the gradients over all processes.

    Args:
        bound: Stage, the same in all processes, whose `training` block has been entered.
    """

    def __init__(self, bound: BoundStage) -> None:
        objective, extra = bound.objective, bound.extra_parameters.values()
        self._user_wrapper = wrapper = objective.models.wrapper
        self._reached = [*(p for name, p in bound.trainable.items() if name not in bound.unreached), *extra]
        """Parameters that get a gradient from every batch that runs as the traced one did."""
        find_unused = wrapper is not None and wrapper.find_unused_parameters
        self._unreached = [] if find_unused else [p for name, p in bound.trainable.items() if name in bound.unreached]
        """Parameters that the traced batch did not reach: their gradients from another batch are not exchanged."""
        if any(getattr(module, "sparse", False) for model in bound.learners.values() for module in model.modules()):
            raise RecipeError(
                "several processes do not exchange sparse gradients; build the embedding with sparse=False"
            )
        buffers = [buffer for module in bound.modules.values() for buffer in module.buffers()]
        self._wrapped = DistributedDataParallel(
            _ObjectiveModule(objective, bound.parameters if find_unused else self._reached, buffers),
            process_group=None if wrapper is None else wrapper.process_group,
            find_unused_parameters=find_unused,
        )
        if find_unused:
            self._reached = []

    def values(self, inputs: Any, targets: Any = None, samples: Sequence[SampleId] = ()) -> dict[str, Tensor]:
        """Return what `Objective.values` returns; without gradients there is nothing to exchange."""
        if not torch.is_grad_enabled():
            return self._wrapped.module(inputs, targets, samples)
        if self._user_wrapper is not None:
            self._wrapped.require_backward_grad_sync = self._user_wrapper.require_backward_grad_sync
        try:
            return self._wrapped(inputs, targets, samples)
        except RuntimeError as error:
            if "Expected to have finished reduction" not in str(error):
                raise
            raise TrainingError(f"a parameter got no gradient from the batch before{_ADVICE}") from None

    def no_sync(self) -> AbstractContextManager[Any]:
        """Accumulate gradients inside the block without an exchange: a later backward does it."""
        return self._wrapped.no_sync()

    def check(self, where: str) -> None:
        """Check that every gradient was exchanged, before a step uses them.

        Raises:
            TrainingError: A parameter got none, so others may not have come from all processes; or one got a gradient
                that the traced batch did not give it.
        """
        if any(parameter.grad is None for parameter in self._reached):
            raise TrainingError(f"{where}: a parameter got no gradient from this batch{_ADVICE}")
        if any(parameter.grad is not None for parameter in self._unreached):
            raise TrainingError(f"{where}: a parameter got a gradient from this batch{_ADVICE}")


class _ObjectiveModule(nn.Module):
    """An objective as a module that has the parameters that train and the buffers that follow them."""

    def __init__(self, objective: Objective, parameters: Iterable[nn.Parameter], buffers: Iterable[Tensor]) -> None:
        super().__init__()
        self._objective = objective
        for number, parameter in enumerate(parameters):
            self.register_parameter(f"parameter_{number}", parameter)
        for number, buffer in enumerate(buffers):
            self.register_buffer(f"buffer_{number}", buffer)

    def forward(self, inputs: Any, targets: Any, samples: Sequence[SampleId]) -> dict[str, Tensor]:
        """Return the objective's values."""
        return self._objective.values(inputs, targets, samples)
