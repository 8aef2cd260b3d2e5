"""The inner loop of one stage: forward, backward, clip, step. One update at a time, on one or more batches."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from compresskit import nodes
from compresskit.distill.batches import StepBatches
from compresskit.distill.objective.objective import Objective
from compresskit.distill.precision import Precision
from compresskit.distill.processes import Processes
from compresskit.distill.spec.address import STUDENT
from compresskit.distill.spec.stage import Stage
from compresskit.distill.training.data_parallel import SynchronizedObjective
from compresskit.distill.training.early_stopping import EarlyStopping
from compresskit.distill.training.ema import moving_average
from compresskit.distill.training.param_groups import check_groups, parameter_groups
from compresskit.errors import DataError, RecipeError, TrainingError, within
from compresskit.nested import inputs_device


class StageLoop:
    """The optimizer and scheduler of one stage, and its updates.

    Args:
        objective: Entered by the caller.
        parameters: What of the models trains, by name.
        precision: The precision of the forwards.
        processes: The processes that take each step together.
    """

    def __init__(
        self, objective: Objective, parameters: Mapping[str, nn.Parameter], precision: Precision, processes: Processes
    ) -> None:
        self.objective = objective
        self.stage = objective.stage
        self._precision = precision
        beside = objective.extra_parameters()
        self.parameters = [*parameters.values(), *beside.values()]
        device = _device(self.parameters).type
        fused = device == "cuda" and not precision.is_default
        self.optimizer = _optimizer(
            self.stage, parameter_groups(self.stage, parameters, beside, objective.models.names()), fused=fused
        )
        self.scheduler = _scheduler(self.stage, self.optimizer, objective.steps)
        student = objective.models.student
        ema = self.stage.ema if STUDENT in objective.learners else None
        self.average = None if ema is None else moving_average(student, ema)
        self.scaler = GradScaler(device) if precision.autocast_dtype == torch.float16 else None
        self._phase = objective.forwards.clock.phase
        self._processes, self._trained = processes, parameters
        self._synchronized: SynchronizedObjective | None = None
        self.watch = EarlyStopping(self.stage.best, self.stage.until)
        self._clock = time.perf_counter()

    def update(self, portion: StepBatches) -> dict[str, Any]:
        """One optimizer step on the mean over all samples of a portion; returns the record for the log.

        Raises:
            TrainingError: A term or the gradient is not finite. The weights are still those of the step before.
        """
        self.optimizer.zero_grad(set_to_none=True)
        sums: Tensor | None = None
        names: list[str] = []
        norms: dict[str, float] = {}
        for number, (batch, counted) in enumerate(zip(portion.batches, portion.counted, strict=True), start=1):
            share = counted / portion.total
            with self._exchanging(last=number == len(portion.batches)):
                with self._precision.autocast(inputs_device(batch.inputs)):
                    terms = self._values(*batch)
                loss, vector = self.objective.weighted_sum(terms)
                norms = norms or self._gradient_norms(terms, share)
                values = vector.detach()
                if share != 1.0:
                    values = values * share
                if (weight := share * self._processes.count) != 1.0:  # an exchange takes the mean, and the sum is meant
                    loss = loss * weight
                with self._phase("backward"):
                    (loss if self.scaler is None else self.scaler.scale(loss)).backward()
            names, sums = list(terms), values if sums is None else sums + values
        if sums is None:
            raise DataError(f"stage {self.stage.name!r}: an update without batches")
        rate = self.optimizer.param_groups[0]["lr"]
        with self._phase("optimizer"):
            values = self._step(self._processes.total(sums), names)
        if self.scheduler is not None:
            self.scheduler.step()
        if self.average is not None:
            self.average.update_parameters(self.objective.models.student)
        before, self._clock = self._clock, time.perf_counter()
        told = self._told(values, norms)
        return {
            "loss": sum(term["value"] * term["weight"] for term in told.values()),
            "terms": told,
            "lr": rate,
            "samples_per_s": portion.total / max(self._clock - before, 1e-9),
        }

    def _step(self, sums: Tensor, names: Sequence[str]) -> dict[str, float]:
        """Step if everything is finite; returns the terms, for which a GPU is waited for here."""
        if self._synchronized is not None:
            self._synchronized.check(self._where)
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = None if self.stage.clip is None and all_finite(gradients) else get_total_norm(gradients)
        values = dict(zip(names, sums.tolist(), strict=True))
        # too large a scale is lowered below, and the step left out
        scaled = self.scaler is not None and self.scaler.get_scale() > 1.0
        self._check_finite(values, 0.0 if norm is None or scaled else float(norm))
        if norm is not None and self.stage.clip is not None:
            clip_grads_with_norm_(self.parameters, self.stage.clip, norm)
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        return values

    def _values(self, *batch: Any) -> dict[str, Tensor]:
        return self.objective.values(*batch) if self._synchronized is None else self._synchronized.values(*batch)

    def _exchanging(self, *, last: bool) -> AbstractContextManager[Any]:
        """Where a batch's forward and backward run: of a step's batches the last one exchanges gradients, if at all."""
        if self._processes.is_single:
            return nullcontext()
        if self._synchronized is None:  # not before the stage has said what trains
            self._synchronized = SynchronizedObjective(self.objective, self._trained)
        return nullcontext() if last else self._synchronized.no_sync()

    def _told(self, values: Mapping[str, float], norms: Mapping[str, float]) -> dict[str, dict[str, float]]:
        weights = self.objective.weights()
        return {
            name: {
                "value": value,
                "weight": weights[name],
                **({"gradient_norm": norms[name]} if name in norms else {}),
            }
            for name, value in values.items()
        }

    def _gradient_norms(self, terms: Mapping[str, Tensor], share: float) -> dict[str, float]:
        """The norm of each unweighted term's own gradient over all that trains, where the stage asks for it.

        It is that of the first of the batches that make a step; `share` is this process's part of it.
        """
        if self.stage.gradient_norms is None or self.objective.step % self.stage.gradient_norms:
            return {}
        norms = {}
        for name, value in terms.items():
            if value.requires_grad:
                found = torch.autograd.grad(value, self.parameters, retain_graph=True, allow_unused=True)
                if not self._processes.is_single:
                    found = self._whole(found, share)
                norms[name] = float(get_total_norm([gradient for gradient in found if gradient is not None]))
            else:
                norms[name] = 0.0
        return norms

    def _whole(self, gradients: Iterable[Tensor | None], share: float) -> list[Tensor]:
        """The gradients of the mean over a whole batch, of which `share` tells this process's part."""
        part = share / float(self._processes.total(torch.tensor(share, device=self._processes.device)))
        pairs = zip(gradients, self.parameters, strict=True)
        own = (torch.zeros_like(parameter) if gradient is None else gradient for gradient, parameter in pairs)
        return [self._processes.total(gradient * part) for gradient in own]

    def learning(self) -> dict[str, nn.Module]:
        """All that learns in this stage, by name: models, what trains beside them, and the average."""
        objective = self.objective
        average = {} if self.average is None else {"average": self.average}
        beside = {f"beside {number}": module for number, module in enumerate(objective.modules())}
        return {**{name: objective.models.module(name) for name in objective.learners}, **beside, **average}

    def restart_clock(self) -> None:
        """Leave out of the next step's rate what was done since the last one."""
        self._clock = time.perf_counter()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the student has the averaged weights, where the stage averages them."""
        if self.average is None:
            yield
            return
        both = self.objective.models.student, self.average.module
        pairs = list(zip(*([*m.parameters(), *m.buffers()] for m in both), strict=True))
        _swap(pairs)
        try:
            yield
        finally:
            _swap(pairs)

    def state_dict(self) -> dict[str, Any]:
        """All that a stage needs to go on, besides the models."""
        previous = self.objective.forwards.previous
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "previous": None if previous is None else previous.state_dict(),
            "watch": self.watch.state_dict(),
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if self.objective.forwards.previous is not None:
            self.objective.forwards.previous.load_state_dict(state["previous"])
        self.watch.load_state_dict(state["watch"])
        if self.scaler is not None:
            self.scaler.load_state_dict(state["scaler"])

    @property
    def _where(self) -> str:
        return f"stage {self.stage.name!r}, step {self.objective.step}"

    def _check_finite(self, terms: Mapping[str, float], norm: float) -> None:
        if all(map(math.isfinite, terms.values())) and math.isfinite(norm):
            return
        where = self._where
        advice = "No parameter was changed by this step. A lower learning rate, warm-up or clip usually helps."
        for name, value in terms.items():
            if not math.isfinite(value):
                raise TrainingError(f"{where}: the term {name} is {value}.\n{advice}")
        raise TrainingError(
            f"{where}: the gradient is {norm} though every term is finite ({', '.join(terms)}).\n{advice}"
        )


def _device(parameters: Sequence[nn.Parameter]) -> torch.device:
    return next((parameter.device for parameter in parameters), torch.device("cpu"))


def _swap(pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
    for one, other in pairs:
        one.data, other.data = other.data, one.data


def _optimizer(stage: Stage, groups: list[dict[str, Any]], *, fused: bool) -> Optimizer:
    """The stage's optimizer, fused if asked for and possible."""
    where, node = f"stage {stage.name!r}: optimizer", stage.optimizer
    offered: dict[str, Any] = {"fused": True} if fused and not (isinstance(node, Mapping) and "foreach" in node) else {}
    if node is None:
        made = AdamW(groups, lr=1e-3, **offered)
    else:
        with within(about=stage.name):
            made = _made(node, groups, kind="optimizer", where=where, offered=offered)
    if not isinstance(made, Optimizer):
        raise RecipeError(f"{where} must give a torch Optimizer, got {type(made).__name__}")
    check_groups(stage, made)
    return made


def _scheduler(stage: Stage, optimizer: Optimizer, steps: int) -> LRScheduler | None:
    where = f"stage {stage.name!r}: scheduler"
    if stage.scheduler is None:
        return None
    offered = {"total_steps": steps, "T_max": steps}
    with within(about=stage.name):
        made = _made(stage.scheduler, optimizer, kind="scheduler", where=where, offered=offered)
    if not isinstance(made, LRScheduler) or isinstance(made, ReduceLROnPlateau):
        raise RecipeError(
            f"{where} must give a torch LRScheduler that steps without a metric, got {type(made).__name__}"
        )
    return made


def _made(
    factory: str | Mapping[str, Any] | Callable[..., Any],
    argument: Any,
    *,
    kind: nodes.Kind,
    where: str,
    offered: Mapping[str, Any] | None = None,
) -> Any:
    """What a node, a dotted name or a callable makes of `argument`; a node is offered what it does not set."""
    if callable(factory):
        return factory(argument)
    node = {"_target_": factory} if isinstance(factory, str) else factory
    return nodes.build(node, argument, kind=kind, where=where, **(offered or {}))


def all_finite(gradients: Sequence[Tensor]) -> bool:
    """Whether it is certain, without waiting for a device, that no gradient holds an infinity or a NaN.

    False says nothing: a norm then tells. On a CPU this takes an eighth of a norm's time. It is what torch's gradient
    scalers do, here with a scale of 1.
    """
    if not all(g.device.type == "cpu" and g.layout == torch.strided and g.is_floating_point() for g in gradients):
        return False
    found = torch.zeros(1)
    if gradients:
        torch._amp_foreach_non_finite_check_and_unscale_(  # pyright: ignore[reportPrivateImportUsage]
            list(gradients), found, torch.ones(())
        )
    return not found.item()
