"""The training loop of one stage: `train_step` is one optimizer step, from zero_grad to the record for the log."""

import functools
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.utils import clip_grads_with_norm_

from compresskit.distill.batches import PreparedBatch, StepBatches
from compresskit.distill.execution import Execution
from compresskit.distill.spec.address import STUDENT
from compresskit.distill.training.bound_stage import BoundStage
from compresskit.distill.training.data_parallel import SynchronizedObjective
from compresskit.distill.training.early_stopping import EarlyStopping
from compresskit.distill.training.ema import exchanged_weights, moving_average
from compresskit.distill.training.gradients import gradient_norm, norms_by_term
from compresskit.distill.training.optimizers import make_optimizer, make_scheduler
from compresskit.errors import TrainingError


class StageLoop:
    """The optimizer, scheduler, averaged weights and early stopping of one stage, and its steps.

    Args:
        bound: Stage whose `training` block the caller has entered.
        execution: Precision and processes of the run.
    """

    def __init__(self, bound: BoundStage, execution: Execution) -> None:
        self.bound, self.stage, self.objective = bound, bound.stage, bound.objective
        self.parameters = bound.parameters
        self._precision, self._processes = execution.precision, execution.processes
        self._device = execution.device
        self.optimizer = make_optimizer(
            self.stage,
            bound.trainable,
            bound.extra_parameters,
            self.objective.models.parameter_names(),
            fused=self._device.type == "cuda"
            and not self._precision.is_default,  # the default rounds as a loop by hand does
        )
        self.scheduler = make_scheduler(self.stage, self.optimizer, self.objective.steps)
        self.scaler = GradScaler(self._device.type) if self._precision.autocast_dtype == torch.float16 else None
        ema = self.stage.ema if STUDENT in bound.learners else None
        self.average = None if ema is None else moving_average(self.objective.models.student, ema)
        self.early_stopping = EarlyStopping(self.stage.best, self.stage.until)
        self._phase = self.objective.forwards.clock.phase
        self._synchronized: SynchronizedObjective | None = None
        self._step_began = time.perf_counter()

    def train_step(self, batches: StepBatches, step: int) -> dict[str, Any]:
        """Do one optimizer step on the mean over all samples of `batches`, and return the record for the log.

        Args:
            batches: This process's batches.
            step: Number of the step in the stage, for the schedules.

        Raises:
            TrainingError: A term or the gradient is not finite. The weights are still those of the step before.
        """
        self.objective.step = step
        self.optimizer.zero_grad(set_to_none=True)
        sums: list[Tensor] = []
        norms: dict[str, float] = {}
        for number, (batch, counted) in enumerate(zip(batches.batches, batches.counted, strict=True), start=1):
            share = counted / batches.total
            with self._exchanging(last=number == len(batches.batches)):  # DDP averages gradients in the last backward
                losses = self._forward(batch)
                loss, values = self.objective.weighted_sum(losses)
                norms = norms or self._norms_by_term(losses, share)
                with self._phase("backward"):
                    self._scaled(loss, share * self._processes.count).backward()
            sums.append(values.detach() if share == 1.0 else values.detach() * share)
        rate = self.optimizer.param_groups[0]["lr"]
        with self._phase("optimizer"):
            self._check_exchange()
            self._unscale()
            norm = gradient_norm(self.parameters, needed=self.stage.clip is not None)
            means = self._means(sums)
            self._check_finite(means, norm)
            self._clip(norm)
            self._step_optimizer()
        if self.scheduler is not None:
            self.scheduler.step()
        if self.average is not None:
            self.average.update_parameters(self.objective.models.student)
        return self._record(means, norms, rate, batches.total)

    def learning(self) -> dict[str, nn.Module]:
        """Return everything that learns in this stage, by name: models, adapters, losses, and the average."""
        return self.bound.modules | ({} if self.average is None else {"average": self.average})

    def restart_clock(self) -> None:
        """Restart the timer of `samples_per_s`, so that an evaluation does not count."""
        self._step_began = time.perf_counter()

    def averaged(self) -> AbstractContextManager[None]:
        """Give the student the averaged weights inside the block, where the stage averages them."""
        if self.average is None:
            return nullcontext()
        return exchanged_weights(self.objective.models.student, self.average.module)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a stage needs to continue, besides the models."""
        previous = self.objective.forwards.previous
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "previous": None if previous is None else previous.state_dict(),
            "watch": self.early_stopping.state_dict(),
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if self.objective.forwards.previous is not None:
            self.objective.forwards.previous.load_state_dict(state["previous"])
        self.early_stopping.load_state_dict(state["watch"])
        if self.scaler is not None:
            self.scaler.load_state_dict(state["scaler"])

    def _forward(self, batch: PreparedBatch) -> dict[str, Tensor]:
        """Return the unweighted terms on one batch."""
        values = self.objective.values if self._synchronized is None else self._synchronized.values
        with self._precision.autocast(self._device.type):
            return values(*batch)

    def _exchanging(self, *, last: bool) -> AbstractContextManager[Any]:
        """Return the block of a batch's forward and backward: only the last batch of a step exchanges gradients."""
        if self._processes.is_single:
            return nullcontext()
        if self._synchronized is None:  # not before the stage has said what trains
            self._synchronized = SynchronizedObjective(self.bound)
        return nullcontext() if last else self._synchronized.no_sync()

    def _scaled(self, loss: Tensor, weight: float) -> Tensor:
        """Return a batch's loss with its weight in the step, and with the scale that keeps fp16 gradients from zero.

        The weight has the number of processes as a factor: an exchange takes the mean of gradients, and a sum is meant.
        """
        loss = loss if weight == 1.0 else loss * weight
        return loss if self.scaler is None else self.scaler.scale(loss)

    def _check_exchange(self) -> None:
        if self._synchronized is not None:
            self._synchronized.check(self._where)

    def _unscale(self) -> None:
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)

    def _means(self, sums: Sequence[Tensor]) -> dict[str, float]:
        """Return the mean of each term over all batches and processes. A GPU is waited for here."""
        total = self._processes.total(sums[0] if len(sums) == 1 else functools.reduce(torch.add, sums))
        return dict(zip(self.objective.terms, total.tolist(), strict=True))

    def _check_finite(self, means: Mapping[str, float], norm: Tensor | None) -> None:
        """Refuse a step whose terms or gradient are not finite; None stands for a finite gradient.

        Raises:
            TrainingError: The message names the first such term.
        """
        skipped = self.scaler is not None and self.scaler.get_scale() > 1.0  # the scaler leaves out what overflows
        size = 0.0 if norm is None or skipped else float(norm)
        if all(map(math.isfinite, means.values())) and math.isfinite(size):
            return
        advice = "No parameter was changed by this step. A lower learning rate, warm-up or clip usually helps."
        for name, value in means.items():
            if not math.isfinite(value):
                raise TrainingError(f"{self._where}: the term {name} is {value}.\n{advice}")
        raise TrainingError(
            f"{self._where}: the gradient is {size} though every term is finite ({', '.join(means)}).\n{advice}"
        )

    def _clip(self, norm: Tensor | None) -> None:
        if self.stage.clip is not None and norm is not None:
            clip_grads_with_norm_(self.parameters, self.stage.clip, norm)

    def _step_optimizer(self) -> None:
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()

    def _record(
        self, means: Mapping[str, float], norms: Mapping[str, float], rate: float, samples: int
    ) -> dict[str, Any]:
        began, self._step_began = self._step_began, time.perf_counter()
        weights = self.objective.weights()
        terms = {name: {"value": mean, "weight": weights[name]} for name, mean in means.items()}
        for name, norm in norms.items():
            terms[name]["gradient_norm"] = norm
        return {
            "loss": sum([term["value"] * term["weight"] for term in terms.values()]),
            "terms": terms,
            "lr": rate,
            "samples_per_s": samples / max(self._step_began - began, 1e-9),
        }

    def _norms_by_term(self, losses: Mapping[str, Tensor], share: float) -> dict[str, float]:
        """Return the norm of each term's own gradient if the stage wants it at this step, for its first batch."""
        if self.stage.gradient_norms is None or self.objective.step % self.stage.gradient_norms:
            return {}
        return norms_by_term(losses, self.parameters, self._processes, share)

    @property
    def _where(self) -> str:
        return f"stage {self.stage.name!r}, step {self.objective.step}"
