"""Models measured by an evaluation: one model, and all models of a run, whose rows are stored one by one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from compresskit.errors import RecipeError
from compresskit.evaluation import Evaluation, has_own
from compresskit.files import read_records, write_records
from compresskit.profiling import count_macs
from compresskit.randomness import own_randomness
from compresskit.recipe.run_files import EVALUATION_FILE
from compresskit.recipe.scoring.metric import Metric, as_names, metrics_by_name
from compresskit.recipe.terminal import say
from compresskit.restore import preserve_state


@dataclass(frozen=True, slots=True)
class Contender:
    """A model of a run, to be measured beside the others."""

    name: str
    role: str
    """`baseline`, `teacher`, `alone`, `inherited` or `distilled`."""
    model: nn.Module


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one contender: a row of the table at a run's end."""

    name: str
    role: str
    metrics: Mapping[str, float]
    per_sample: Mapping[str, Sequence[float]]
    """The metrics of each test sample, in the order of the data; empty if the evaluation gives means only."""
    parameters: int
    macs: int
    units: Mapping[str, str] = field(default_factory=dict)
    """The units of the metrics that have one."""
    lower_is_better: Sequence[str] = ()
    """The metrics that improve as they fall."""

    @property
    def columns(self) -> list[Metric]:
        """The metrics in order, each with its unit and direction."""
        return metrics_by_name(self.metrics, self.units, self.lower_is_better)

    def figure(self, metric: Metric) -> str:
        """Return the text of one of the metrics."""
        return metric.figure(self.metrics[metric.name])

    def summary(self) -> dict[str, Any]:
        """Return the row as `summary.json` holds it."""
        return {"name": self.name, "role": self.role, **self.metrics, "parameters": self.parameters, "macs": self.macs}


_KNOWN = {field.name for field in fields(Row)}
_REQUIRED = {field.name for field in fields(Row) if field.default is MISSING and field.default_factory is MISSING}


def measure(
    contenders: Sequence[Contender], evaluation: Evaluation | None, inputs: Any, folder: Path, seed: int
) -> list[Row]:
    """Return a row for each contender. A row that an earlier session of the run has stored is not measured again.

    Args:
        contenders: The models of the run.
        evaluation: The recipe's evaluation; None gives rows without metrics.
        inputs: Inputs of one sample as a batch of one, to count multiply-accumulates on.
        folder: Folder of the run, where each row is stored as soon as it is there.
        seed: Seed of the random numbers that an evaluation may draw.
    """
    rows = {row.name: row for row in stored_rows(folder)}
    for contender in contenders:
        if contender.name not in rows:
            if evaluation is not None:
                say(f"evaluating {contender.name}")
            rows[contender.name] = _row(contender, evaluation, inputs, seed)
            done = [asdict(rows[each.name]) for each in contenders if each.name in rows]
            write_records(folder / EVALUATION_FILE, done)
    return [rows[contender.name] for contender in contenders]


def stored_rows(folder: Path) -> list[Row]:
    """Return the rows that a run has stored so far; damaged ones are left out, and a line says so."""
    path = folder / EVALUATION_FILE
    records, intact = read_records(path)
    rows = [Row(**record) for record in records if _is_row(record)]
    if not intact or len(rows) < len(records):
        say(f"{path} is damaged: {len(rows)} rows of it can be used")
    return rows


def measure_model(
    model: nn.Module, evaluation: Evaluation, seed: int
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Return each metric's mean and its value for every sample; no values if the evaluation gives means only.

    An evaluation with values for every sample is not called for the means: the data are read once.

    Raises:
        RecipeError: The evaluation returns something else than figures by metric.
    """
    with preserve_state(model), own_randomness(seed), torch.no_grad():
        model.eval()
        values = _by_metric(evaluation.per_sample(model))
        if not values:
            return {name: _mean(name, mean) for name, mean in _by_metric(evaluation(model)).items()}, {}
        per_sample = {name: _values(name, each) for name, each in values.items()}
    return {name: fmean(each) for name, each in per_sample.items()}, per_sample


def illustrate(contenders: Sequence[Contender], evaluation: Evaluation | None, folder: Path, seed: int) -> None:
    """Let the evaluation draw pictures of all contenders into `folder`, if it can."""
    if not has_own(evaluation, "illustrate"):
        return
    models = {contender.name: contender.model for contender in contenders}
    with preserve_state(*models.values()), own_randomness(seed), torch.no_grad():
        for model in models.values():
            model.eval()
        folder.mkdir(exist_ok=True)
        evaluation.illustrate(models, folder)


def _is_row(record: Mapping[str, Any]) -> bool:
    """Return whether a record from a file, which may be anybody's, has the fields of a row."""
    if not _REQUIRED <= record.keys() <= _KNOWN:
        return False
    metrics, each = record["metrics"], record["per_sample"]
    return (
        all(isinstance(record[name], str) for name in ("name", "role"))
        and all(isinstance(record[name], int) for name in ("parameters", "macs"))
        and isinstance(metrics, dict)
        and all(isinstance(value, int | float) for value in metrics.values())
        and isinstance(each, dict)
        and all(isinstance(values, list) for values in each.values())
    )


def input_shapes(inputs: Any) -> str:
    """Return the shapes of one sample's inputs as text: `4 x 64 x 64`."""
    args, kwargs = _arguments(inputs)
    tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
    return " and ".join(" x ".join(map(str, tensor.shape[1:])) for tensor in tensors)


def _row(contender: Contender, evaluation: Evaluation | None, inputs: Any, seed: int) -> Row:
    model = contender.model
    metrics, per_sample = ({}, {}) if evaluation is None else measure_model(model, evaluation, seed)
    args, kwargs = _arguments(inputs)
    return Row(
        contender.name,
        contender.role,
        metrics,
        per_sample,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        macs=count_macs(model, args, kwargs),
        units={} if evaluation is None else dict(evaluation.units),
        lower_is_better=[] if evaluation is None else as_names(evaluation.lower_is_better),
    )


def _by_metric(figures: Any) -> Mapping[str, Any]:
    if isinstance(figures, Mapping):
        return figures
    raise RecipeError(
        f"evaluate: an evaluation returns figures by metric, such as {{'accuracy': 93.1}}, got {figures!r}",
        path=("evaluate",),
    )


def _mean(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise RecipeError(
            f"evaluate: a metric is a number, got {name!r}: {value!r}. Values per sample are returned by per_sample",
            path=("evaluate",),
        ) from None


def _values(name: str, values: Iterable[Any]) -> list[float]:
    try:
        return [float(value) for value in values]
    except (TypeError, ValueError, RuntimeError):
        raise RecipeError(
            f"evaluate: per_sample returns a number for every sample, got {name!r}: {values!r}. A metric of the data "
            "as a whole is returned by __call__",
            path=("evaluate",),
        ) from None


def _arguments(inputs: Any) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Return positional and keyword arguments of a model's call on a batch's inputs."""
    if isinstance(inputs, Mapping):
        return (), inputs
    return (inputs if isinstance(inputs, tuple | list) else (inputs,)), {}
