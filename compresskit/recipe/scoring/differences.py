"""Paired differences between the rows of a run: the distilled student beside its nearest rivals."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from compresskit.recipe.scoring.measure import Row
from compresskit.recipe.scoring.metric import Metric


@dataclass(frozen=True, slots=True)
class Difference:
    """One row minus another in the first metric, sample by sample."""

    row: str
    than: str
    """Name of the other row."""
    role: str
    """Role of the other row."""
    metric: Metric
    mean: float
    each: tuple[float, ...]
    """The difference on every sample; empty if the evaluation gives means only."""

    @property
    def gain(self) -> float:
        """By how much the row is better on average; below 0 if it is worse."""
        return self.metric.gain(self.mean)

    @property
    def better(self) -> int:
        """Number of samples on which the row is better than the other."""
        return sum(self.metric.gain(value) > 0 for value in self.each)

    @property
    def equal(self) -> int:
        """Number of samples on which the two rows are equal."""
        return sum(value == 0 for value in self.each)

    def __str__(self) -> str:
        text = f"{self.row} minus {self.than}: {self.metric.signed(self.mean)} on average"
        if not self.each:
            return text
        low, high = self.metric.change(min(self.each)), self.metric.change(max(self.each))
        counts = f"better on {self.better} of {len(self.each)}" + (f", equal on {self.equal}" if self.equal else "")
        return f"{text} ({low} to {high}), {counts}"


def differences(rows: Sequence[Row]) -> list[Difference]:
    """Return the distilled student minus the best baseline and minus each control, as far as there are such rows.

    The first metric decides which baseline is best.
    """
    distilled = next((row for row in rows if row.role == "distilled"), None)
    metric = next(iter(distilled.columns), None) if distilled is not None else None
    if distilled is None or metric is None:
        return []
    baselines = [row for row in rows if row.role == "baseline"]
    best = max(baselines, key=lambda row: metric.gain(row.metrics[metric.name]), default=None)
    controls = [row for role in ("alone", "inherited") for row in rows if row.role == role]
    return [_difference(distilled, other, metric) for other in (best, *controls) if other is not None]


def _difference(row: Row, other: Row, metric: Metric) -> Difference:
    values, others = row.per_sample.get(metric.name, ()), other.per_sample.get(metric.name, ())
    each = tuple(a - b for a, b in zip(values, others, strict=True)) if values and others else ()
    mean = fmean(each) if each else row.metrics[metric.name] - other.metrics[metric.name]
    return Difference(row.name, other.name, other.role, metric, mean, each)
