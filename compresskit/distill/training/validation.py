"""How good the student is: the stage's terms over the validation data, and what the user's `evaluate` says."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from compresskit.distill.batches import Unpack, same_on_all, unpack_batch
from compresskit.distill.objective.models import Models
from compresskit.distill.objective.objective import Objective
from compresskit.distill.processes import Processes
from compresskit.distill.spec.stage import Stage
from compresskit.distill.taps.restore import preserved
from compresskit.distill.training.early_stopping import EarlyStopping
from compresskit.errors import DataError, RecipeError, close_names
from compresskit.nested import batch_size, moved
from compresskit.randomness import own_randomness

Evaluate = Callable[[nn.Module], Mapping[str, float]]


class Validator:
    """Evaluates the student, in eval mode, without gradients and with random numbers of its own.

    Args:
        models: Whose student it is.
        seed: Of the random numbers.
        device: Where batches go.
        half: The autocast type of the forwards, or None.
        loader: Validation data, or None.
        evaluate: The user's function, or None.
        unpack: Makes (inputs, targets) of a batch; None follows the convention.
        processes: The processes that share the run. Where they have different validation data, each has a part of it.
    """

    def __init__(
        self,
        models: Models,
        seed: int,
        device: torch.device,
        half: torch.dtype | None,
        loader: Iterable[Any] | None,
        evaluate: Evaluate | None,
        unpack: Unpack | None,
        processes: Processes,
    ) -> None:
        self._processes = processes
        self._models, self._seed, self._device, self._half = models, seed, device, half
        self._loader, self._evaluate, self._unpack = loader, evaluate, unpack or unpack_batch

    def check(self, stages: Sequence[Stage]) -> None:
        """See that there is something to evaluate where a stage wants it, and read one batch.

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
            self._unpack(batch)
            return
        raise DataError("val_loader is empty")

    def validation(self, objective: Objective) -> dict[str, float]:
        """Means of the stage's terms over the validation data, and of their weighted sum, `loss`; as the first says."""
        if self._loader is None:
            return {}
        totals: dict[str, float] = {}
        count, same = 0, None
        learning = [self._models.module(name) for name in objective.learners]
        with preserved(*learning, *objective.modules()), own_randomness(self._seed), torch.no_grad():
            for model in (*learning, *objective.modules()):
                model.eval()
            for batch in self._loader:
                inputs, targets = (moved(part, self._device) for part in self._unpack(batch))
                size = batch_size(inputs)
                same = same_on_all(inputs, self._processes) if same is None else same
                with torch.autocast(self._device.type, dtype=self._half, enabled=self._half is not None):
                    loss, terms = objective(inputs, targets)
                count += size
                for name, value in {**terms, "loss": loss}.items():
                    totals[name] = totals.get(name, 0.0) + float(value) * size
        if not same:
            parts = self._processes.gather((totals, count))
            totals = {name: sum(part[name] for part, _ in parts) for name in totals}
            count = sum(size for _, size in parts)
        return self._processes.broadcast({name: total / count for name, total in totals.items()})

    def metrics(self) -> dict[str, float]:
        """What `evaluate` says of the student, in the first process."""
        if self._evaluate is None:
            return {}
        student = self._models.student
        with preserved(student), own_randomness(self._seed), torch.no_grad():
            student.eval()
            return self._processes.broadcast({name: float(value) for name, value in self._evaluate(student).items()})


def _check_goals(stage: Stage) -> None:
    """Raise a RecipeError for a goal that is no term of the stage: without `evaluate` nothing else is measured."""
    known = (*stage.terms, "loss")
    for goal in EarlyStopping(stage.best, stage.until).goals:
        if goal.metric not in known:
            raise RecipeError(
                f"stage {stage.name!r}: no metric {goal.metric!r}{close_names(goal.metric, known)}", about=(stage.name,)
            )
