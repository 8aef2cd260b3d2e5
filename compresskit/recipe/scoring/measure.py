"""The end of a run: every model measured on the test data, one row each, kept as they come."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from compresskit.files import read_json, write_json
from compresskit.profiling import count_macs
from compresskit.randomness import own_randomness
from compresskit.recipe.running.folder import say
from compresskit.recipe.scoring.metric import Metric
from compresskit.restore import preserve_state

EVALUATION_FILE = "evaluation.json"


@dataclass(frozen=True, slots=True)
class Contender:
    """One line of the table at the end."""

    name: str
    role: str
    """`baseline`, `teacher`, `alone` or `distilled`."""
    model: nn.Module


@dataclass(frozen=True, slots=True)
class Row:
    """What one contender came to."""

    name: str
    role: str
    metrics: Mapping[str, float]
    per_sample: Mapping[str, Sequence[float]]
    """The metrics of each test sample, in the data's order; empty where the evaluation does not give them."""
    parameters: int
    macs: int
    units: Mapping[str, str] = field(default_factory=dict)
    """Of the metrics that have one."""
    lower_is_better: Sequence[str] = ()
    """Metrics of which less is better."""

    @property
    def columns(self) -> list[Metric]:
        """What kind of figure each of the metrics is, in order."""
        return [Metric(name, self.units.get(name, ""), name in self.lower_is_better) for name in self.metrics]

    def summary(self) -> dict[str, Any]:
        """The row as `summary.json` has it."""
        return {"name": self.name, "role": self.role, **self.metrics, "parameters": self.parameters, "macs": self.macs}


def measure(contenders: Sequence[Contender], evaluation: Any, inputs: Any, folder: Path, seed: int) -> list[Row]:
    """One row for each contender; rows that an earlier session of the run wrote are taken as they are.

    An evaluation with `per_sample` is asked for that alone and its means are the metrics: one walk over the test data.

    Args:
        contenders: What to measure.
        evaluation: The recipe's, or None: then the rows have no metrics.
        inputs: One sample as a batch of one, to count multiply-accumulates of.
        folder: The run's folder.
        seed: Under which the evaluation runs, should it draw numbers.
    """
    rows = {row.name: row for row in kept_rows(folder)}
    for contender in contenders:
        if contender.name not in rows:
            if evaluation is not None:
                say(f"evaluating {contender.name}")
            rows[contender.name] = _row(contender, evaluation, inputs, seed)
            write_json(folder / EVALUATION_FILE, [asdict(row) for row in rows.values()])
    return [rows[contender.name] for contender in contenders]


def kept_rows(folder: Path) -> list[Row]:
    """The rows that a run has come to so far."""
    return [Row(**row) for row in read_json(folder / EVALUATION_FILE) or []]


def illustrate(contenders: Sequence[Contender], evaluation: Any, folder: Path, seed: int) -> None:
    """Let the evaluation draw its pictures of all contenders into `folder`, where it can."""
    if not hasattr(evaluation, "illustrate"):
        return
    models = {contender.name: contender.model for contender in contenders}
    with preserve_state(*models.values()), own_randomness(seed), torch.no_grad():
        for model in models.values():
            model.eval()
        folder.mkdir(exist_ok=True)
        evaluation.illustrate(models, folder)


def _row(contender: Contender, evaluation: Any, inputs: Any, seed: int) -> Row:
    model = contender.model
    metrics, per_sample = {}, {}
    with preserve_state(model), own_randomness(seed), torch.no_grad():
        model.eval()
        if hasattr(evaluation, "per_sample"):
            per_sample = {name: [float(v) for v in values] for name, values in evaluation.per_sample(model).items()}
            metrics = {name: fmean(values) for name, values in per_sample.items()}
        elif evaluation is not None:
            metrics = {name: float(value) for name, value in evaluation(model).items()}
    parameters = sum(parameter.numel() for parameter in model.parameters())
    lower = getattr(evaluation, "lower_is_better", ())
    return Row(
        contender.name,
        contender.role,
        metrics,
        per_sample,
        parameters,
        _macs(model, inputs),
        units=dict(getattr(evaluation, "units", {})),
        lower_is_better=[lower] if isinstance(lower, str) else list(lower),
    )


def _macs(model: nn.Module, inputs: Any) -> int:
    args, kwargs = _call(inputs)
    return count_macs(model, args, kwargs)


def _call(inputs: Any) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Positional and keyword arguments of a model's call on a batch's inputs."""
    if isinstance(inputs, Mapping):
        return (), inputs
    return (inputs if isinstance(inputs, tuple | list) else (inputs,)), {}


def shapes(inputs: Any) -> str:
    """The shapes of a batch's inputs, for people: `4 x 64 x 64`."""
    args, kwargs = _call(inputs)
    tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
    return " and ".join(" x ".join(map(str, tensor.shape[1:])) for tensor in tensors)
