"""Validation: the stage's terms over the validation data, and the metrics of the user's `evaluate`."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from compresskit.data import batch_sizes
from compresskit.distill.batches import Unpack, same_on_all, uncountable, unpacked
from compresskit.distill.execution import Execution
from compresskit.distill.objective.models import Models
from compresskit.distill.objective.objective import Objective
from compresskit.distill.samples import may_be_time_first, sample_count
from compresskit.distill.spec.stage import Stage
from compresskit.distill.training.early_stopping import EarlyStopping
from compresskit.errors import DataError, RecipeError, close_names
from compresskit.nested import to_device
from compresskit.randomness import own_randomness
from compresskit.restore import preserve_state

Evaluate = Callable[[nn.Module], Mapping[str, float]]


class Validator:
    """Evaluates the student in eval mode, without gradients and with random numbers of its own.

    Args:
        models: The student and its teachers.
        execution: Seed, device, precision and processes of the run. Where processes have different validation data,
            each has a part of it.
        loader: Validation data, or None.
        evaluate: The user's function, or None.
        unpack: Function that makes (inputs, targets) of a batch; None follows the convention.
    """

    def __init__(
        self,
        models: Models,
        execution: Execution,
        loader: Iterable[Any] | None,
        evaluate: Evaluate | None,
        unpack: Unpack | None,
    ) -> None:
        self._models, self._execution = models, execution
        self._loader, self._evaluate, self._unpack = loader, evaluate, unpack

    @property
    def has_data(self) -> bool:
        """True if there is validation data."""
        return self._loader is not None

    @property
    def measures(self) -> bool:
        """True if there is anything to evaluate with."""
        return self._loader is not None or self._evaluate is not None

    def check(self, stages: Sequence[Stage]) -> None:
        """Check that there is something to evaluate where a stage wants it, and read one batch.

        Raises:
            RecipeError: A stage evaluates every so many steps, and there is nothing to evaluate with.
            DataError: The validation data is empty, or cannot be read a second time.
        """
        for stage in stages:
            if stage.every is not None and self._loader is None and self._evaluate is None:
                raise RecipeError(
                    f"stage {stage.name!r}: every={stage.every}, but there is nothing to evaluate with: "
                    "give fit a val_loader or evaluate, or a recipe data.val",
                    path=("every",),
                    about=(stage.name,),
                )
        if self._evaluate is None:  # else the goal may be one of its metrics, which only a call tells
            for stage in stages:
                _check_goals(stage)
        if self._loader is None:
            return
        if iter(self._loader) is self._loader:
            raise DataError("val_loader can be walked only once, and each stage needs it; give a list or a DataLoader")
        for batch in self._loader:
            unpacked(batch, self._unpack)
            return
        raise DataError("val_loader is empty")

    def validate(self, objective: Objective) -> dict[str, float]:
        """Return the means of the stage's terms over the validation data, and of their weighted sum, `loss`.

        All processes return the figures of the main one.
        """
        if self._loader is None:
            return {}
        device, precision, processes = self._execution.device, self._execution.precision, self._execution.processes
        totals: dict[str, float] = {}
        by_position: dict[str, list[_Weighted]] = {name: [] for name in objective.terms_by_position}
        count, same = 0, None
        checks = objective.checks_positions
        learning = [*(self._models.module(name) for name in objective.learners), *objective.modules()]
        with preserve_state(*learning), own_randomness(self._execution.seed), torch.no_grad():
            for module in learning:
                module.eval()
            for *parts, size in self._counted_batches():
                inputs, targets = (to_device(part, device) for part in parts)
                same = same_on_all(inputs, processes) if same is None else same
                objective.checks_positions = count > 0
                with precision.autocast(device.type):
                    loss, terms = objective(inputs, targets)
                count += size
                for name, positions in objective.positions(inputs, targets, size).items():
                    by_position[name].append(_Weighted(float(terms[name]), positions, size))
                for name, value in {**terms, "loss": loss}.items():
                    totals[name] = totals.get(name, 0.0) + float(value) * size
        objective.checks_positions = checks
        if not same:
            shares = processes.gather((totals, count, by_position))
            totals = {name: sum(part[name] for part, _, _ in shares) for name in totals}
            count = sum(size for _, size, _ in shares)
            by_position = {name: [row for *_, part in shares for row in part[name]] for name in by_position}
        means = {name: total / count for name, total in totals.items()}
        return processes.broadcast(_means_over_positions(means, by_position, objective.weights()))

    def _counted_batches(self) -> Iterator[tuple[Any, Any, int]]:
        """Yield inputs, targets and number of samples of each batch; one alone counts as 1 if its number is not known.

        Raises:
            DataError: Several make a mean, and the samples of one cannot be counted.
        """
        sizes: list[int | None] = []
        for batch, declared in zip(self._loader or (), batch_sizes(self._loader or ()), strict=False):
            inputs, targets, size = unpacked(batch, self._unpack)
            if size is None:
                size = sample_count(inputs, targets, declared)
                if declared is None and self._models.is_time_first and may_be_time_first(inputs, targets):
                    size = None
            sizes.append(size)
            if None in sizes and (len(sizes) > 1 or not self._execution.processes.is_single):
                raise uncountable(inputs, targets, "validation weighs each batch by them")
            yield inputs, targets, 1 if size is None else size

    def metrics(self) -> dict[str, float]:
        """Return the metrics of `evaluate`. Every process measures, and all return the main one's figures."""
        if self._evaluate is None:
            return {}
        student = self._models.student
        with preserve_state(student), own_randomness(self._execution.seed), torch.no_grad():
            student.eval()
            metrics = {name: float(value) for name, value in self._evaluate(student).items()}
            return self._execution.processes.broadcast(metrics)


class _Weighted(NamedTuple):
    """The value of a term on one batch, and what the batch weighs."""

    value: float
    positions: int
    samples: int


def _means_over_positions(
    means: dict[str, float], by_position: Mapping[str, Sequence[_Weighted]], weights: Mapping[str, float]
) -> dict[str, float]:
    """Return the means with those over positions in place of those over samples, where these are not the same."""
    corrected = {
        name: sum(row.value * row.positions for row in rows) / max(1, sum(row.positions for row in rows))
        for name, rows in by_position.items()
        if any(row.positions * rows[0].samples != rows[0].positions * row.samples for row in rows)
    }
    if not corrected:
        return means
    means |= corrected
    return means | {"loss": sum(means[name] * weight for name, weight in weights.items())}


def _check_goals(stage: Stage) -> None:
    """Refuse a goal that is no term of the stage: without `evaluate` nothing else is measured."""
    known = (*stage.terms, "loss")
    for goal in EarlyStopping(stage.best, stage.until).goals:
        if goal.metric not in known:
            raise RecipeError(
                f"stage {stage.name!r}: no metric {goal.metric!r}{close_names(goal.metric, known)}", about=(stage.name,)
            )
