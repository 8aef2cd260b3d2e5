"""The inner loop of one stage: forward, backward, clip, step. One update at a time, on one or more batches."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from compresskit import resolve
from compresskit.distill.objective import Objective, inputs_device, tensors_in
from compresskit.distill.stage import Stage
from compresskit.errors import DataError, RecipeError, TrainingError


class StageLoop:
    """The optimizer and scheduler of one stage, and its updates.

    Args:
        objective: Entered by the caller.
        parameters: What of the student trains.
        half: The autocast type of the forwards, or None for full precision.
    """

    def __init__(self, objective: Objective, parameters: Sequence[nn.Parameter], half: torch.dtype | None) -> None:
        self.objective = objective
        self.stage = objective.stage
        self.half = half
        beside = [p for module in objective.modules() for p in module.parameters() if p.requires_grad]
        self.parameters = [*parameters, *beside]
        groups = [{"params": list(parameters)}, *([{"params": beside}] if beside else [])]
        self.optimizer = _optimizer(self.stage, groups)
        self.scheduler = _scheduler(self.stage, self.optimizer, objective.steps)
        self._clock = time.perf_counter()

    def update(self, batches: Sequence[tuple[Any, Any]]) -> dict[str, Any]:
        """One optimizer step on the mean over all samples of `batches`; returns the record for the log.

        Raises:
            TrainingError: A term or the gradient is not finite. The weights are still those of the step before.
        """
        sizes = [batch_size(inputs) for inputs, _ in batches]
        self.optimizer.zero_grad(set_to_none=True)
        sums: Tensor | None = None
        names: list[str] = []
        for (inputs, targets), size in zip(batches, sizes, strict=True):
            share = size / sum(sizes)
            with torch.autocast(inputs_device(inputs), dtype=self.half, enabled=self.half is not None):
                loss, terms = self.objective(inputs, targets)
            (loss * share).backward()
            names = list(terms)
            values = torch.stack([loss.detach(), *terms.values()]) * share
            sums = values if sums is None else sums + values
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = get_total_norm(gradients)
        if sums is None:
            raise DataError(f"stage {self.stage.name!r}: an update without batches")
        loss_value, *term_values, norm_value = torch.cat(
            [sums, norm.reshape(1).to(sums)]
        ).tolist()  # the one wait for the device
        self._check_finite(dict(zip(names, term_values, strict=True)), norm_value)
        if self.stage.clip is not None:
            clip_grads_with_norm_(self.parameters, self.stage.clip, norm)
        rate = self.optimizer.param_groups[0]["lr"]
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        weights = self.objective.weights()
        before, self._clock = self._clock, time.perf_counter()
        return {
            "loss": loss_value,
            "terms": {n: {"value": v, "weight": weights[n]} for n, v in zip(names, term_values, strict=True)},
            "lr": rate,
            "samples_per_s": sum(sizes) / max(self._clock - before, 1e-9),
        }

    def state_dict(self) -> dict[str, Any]:
        """The states of optimizer and scheduler."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])

    def _check_finite(self, terms: Mapping[str, float], norm: float) -> None:
        where = f"stage {self.stage.name!r}, step {self.objective.step}"
        advice = "No parameter was changed by this step. A lower learning rate, warm-up or clip usually helps."
        for name, value in terms.items():
            if not math.isfinite(value):
                raise TrainingError(f"{where}: the term {name} is {value}.\n{advice}")
        if not math.isfinite(norm):
            raise TrainingError(
                f"{where}: the gradient is {norm} though every term is finite ({', '.join(terms)}).\n{advice}"
            )


def batch_size(inputs: Any) -> int:
    """Samples in a batch: the first dimension of its first tensor.

    Raises:
        DataError: The inputs hold no tensor with a batch dimension.
    """
    for tensor in tensors_in(inputs):
        if tensor.dim():
            return tensor.shape[0]
    raise DataError(f"a batch's inputs hold no tensor with a batch dimension, got {type(inputs).__name__}")


def _optimizer(stage: Stage, groups: list[dict[str, Any]]) -> Optimizer:
    where = f"stage {stage.name!r}: optimizer"
    if stage.optimizer is None:
        return AdamW(groups, lr=1e-3)
    made = _made(stage.optimizer, groups, kind="optimizer", where=where)
    if not isinstance(made, Optimizer):
        raise RecipeError(f"{where} must give a torch Optimizer, got {type(made).__name__}")
    return made


def _scheduler(stage: Stage, optimizer: Optimizer, steps: int) -> LRScheduler | None:
    where = f"stage {stage.name!r}: scheduler"
    if stage.scheduler is None:
        return None
    made = _made(
        stage.scheduler, optimizer, kind="scheduler", where=where, lengths={"total_steps": steps, "T_max": steps}
    )
    if not isinstance(made, LRScheduler) or isinstance(made, ReduceLROnPlateau):
        raise RecipeError(
            f"{where} must give a torch LRScheduler that steps without a metric, got {type(made).__name__}"
        )
    return made


def _made(
    factory: str | Mapping[str, Any] | Callable[..., Any],
    argument: Any,
    *,
    kind: resolve.Kind,
    where: str,
    lengths: Mapping[str, int] | None = None,
) -> Any:
    """What a node, a dotted name or a callable makes of `argument`; a node is offered the lengths it does not set."""
    if callable(factory):
        return factory(argument)
    node = {"_target_": factory} if isinstance(factory, str) else factory
    return resolve.build(node, argument, kind=kind, where=where, **(lengths or {}))
