"""The training loop of one stage: `train_step` is one optimizer step, from zero_grad to the record for the log."""

import functools
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from compresskit.distill.batches import PreparedBatch, StepBatches
from compresskit.distill.execution import Execution
from compresskit.distill.spec.address import STUDENT
from compresskit.distill.training.bound_stage import BoundStage
from compresskit.distill.training.data_parallel import SynchronizedObjective
from compresskit.distill.training.early_stopping import EarlyStopping
from compresskit.distill.training.ema import moving_average
from compresskit.distill.training.optimizers import make_optimizer, make_scheduler
from compresskit.errors import TrainingError
from compresskit.nested import device_of


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
        device = device_of(self.parameters).type
        self.optimizer = make_optimizer(
            self.stage,
            bound.trainable,
            bound.extra_parameters,
            self.objective.models.parameter_names(),
            fused=device == "cuda" and not self._precision.is_default,
        )
        self.scheduler = make_scheduler(self.stage, self.optimizer, self.objective.steps)
        self.scaler = GradScaler(device) if self._precision.autocast_dtype == torch.float16 else None
        ema = self.stage.ema if STUDENT in bound.learners else None
        self.average = None if ema is None else moving_average(self.objective.models.student, ema)
        self.early_stopping = EarlyStopping(self.stage.best, self.stage.until)
        self._phase = self.objective.forwards.clock.phase
        self._synchronized: SynchronizedObjective | None = None
        self._step_began = time.perf_counter()

    def train_step(self, batches: StepBatches) -> dict[str, Any]:
        """Do one optimizer step on the mean over all samples of `batches`, and return the record for the log.

        Raises:
            TrainingError: A term or the gradient is not finite. The weights are still those of the step before.
        """
        self.optimizer.zero_grad(set_to_none=True)
        sums: list[Tensor] = []
        norms: dict[str, float] = {}
        for number, (batch, counted) in enumerate(zip(batches.batches, batches.counted, strict=True), start=1):
            share = counted / batches.total
            with self._synchronizing(last=number == len(batches.batches)):
                terms = self._forward(batch)
                loss, values = self.objective.weighted_sum(terms)
                norms = norms or self._gradient_norms(terms, share)
                with self._phase("backward"):
                    self._scaled(loss, share * self._processes.count).backward()
            sums.append(values.detach() if share == 1.0 else values.detach() * share)
        rate = self.optimizer.param_groups[0]["lr"]
        with self._phase("optimizer"):
            norm = self._gradient_norm()
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
        """Leave out of the next step's rate what was done since the last one."""
        self._step_began = time.perf_counter()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the student the averaged weights inside the block, where the stage averages them."""
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
        with self._precision.autocast(device_of(batch.inputs).type):
            return values(*batch)

    def _synchronizing(self, *, last: bool) -> AbstractContextManager[Any]:
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

    def _gradient_norm(self) -> float | Tensor:
        """Return the norm of the whole gradient if clipping needs it or something in it is not finite, else 0."""
        if self._synchronized is not None:
            self._synchronized.check(self._where)
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        return 0.0 if self.stage.clip is None and _all_finite(gradients) else get_total_norm(gradients)

    def _means(self, sums: Sequence[Tensor]) -> dict[str, float]:
        """Return the mean of each term over all batches and processes. A GPU is waited for here."""
        total = self._processes.total(sums[0] if len(sums) == 1 else functools.reduce(torch.add, sums))
        return dict(zip(self.objective.terms, total.tolist(), strict=True))

    def _check_finite(self, terms: Mapping[str, float], norm: float | Tensor) -> None:
        """Refuse a step whose terms or gradient are not finite.

        Raises:
            TrainingError: The message names the first such term.
        """
        if self.scaler is not None and self.scaler.get_scale() > 1.0:
            norm = 0.0  # the scaler leaves this step out and lowers its scale
        if all(map(math.isfinite, terms.values())) and math.isfinite(norm := float(norm)):
            return
        advice = "No parameter was changed by this step. A lower learning rate, warm-up or clip usually helps."
        for name, value in terms.items():
            if not math.isfinite(value):
                raise TrainingError(f"{self._where}: the term {name} is {value}.\n{advice}")
        raise TrainingError(
            f"{self._where}: the gradient is {norm} though every term is finite ({', '.join(terms)}).\n{advice}"
        )

    def _clip(self, norm: float | Tensor) -> None:
        if self.stage.clip is not None and isinstance(norm, Tensor):
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
        terms = {
            name: {
                "value": mean,
                "weight": weights[name],
                **({"gradient_norm": norms[name]} if name in norms else {}),
            }
            for name, mean in means.items()
        }
        return {
            "loss": sum(term["value"] * term["weight"] for term in terms.values()),
            "terms": terms,
            "lr": rate,
            "samples_per_s": samples / max(self._step_began - began, 1e-9),
        }

    def _gradient_norms(self, terms: Mapping[str, Tensor], share: float) -> dict[str, float]:
        """Return the norm of each unweighted term's own gradient over everything that trains, if the stage asks for it.

        It is that of the first of the batches that make a step.

        Args:
            terms: Unweighted terms of the batch.
            share: Share of this process's samples of the batch in all samples of the step.
        """
        if self.stage.gradient_norms is None or self.objective.step % self.stage.gradient_norms:
            return {}
        norms = {}
        for name, value in terms.items():
            if value.requires_grad:
                gradients = torch.autograd.grad(value, self.parameters, retain_graph=True, allow_unused=True)
                if not self._processes.is_single:
                    gradients = self._mean_over_processes(gradients, share)
                norms[name] = float(get_total_norm([gradient for gradient in gradients if gradient is not None]))
            else:
                norms[name] = 0.0
        return norms

    def _mean_over_processes(self, gradients: Iterable[Tensor | None], share: float) -> list[Tensor]:
        """Return the gradients of the mean over a whole batch, of which this process has `share`."""
        part = share / float(self._processes.total(torch.tensor(share, device=self._processes.device)))
        pairs = zip(gradients, self.parameters, strict=True)
        own = (torch.zeros_like(parameter) if gradient is None else gradient for gradient, parameter in pairs)
        return [self._processes.total(gradient * part) for gradient in own]

    @property
    def _where(self) -> str:
        return f"stage {self.stage.name!r}, step {self.objective.step}"


def _swap(pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
    for one, other in pairs:
        one.data, other.data = other.data, one.data


def _all_finite(gradients: Sequence[Tensor]) -> bool:
    """Return True if it is certain, without waiting for a device, that no gradient holds an infinity or a NaN.

    False says nothing: a norm then tells. On a CPU this takes an eighth of a norm's time. It is what torch's gradient
    scalers do, here with a scale of 1.
    """
    if not all(g.is_cpu and g.layout is torch.strided and g.is_floating_point() for g in gradients):
        return False
    not_finite = torch.zeros(1)
    if gradients:
        torch._amp_foreach_non_finite_check_and_unscale_(  # pyright: ignore[reportPrivateImportUsage]
            list(gradients), not_finite, torch.ones(())
        )
    return not not_finite.item()
