"""What a run came to: the table at its end, and paired differences between its rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from compresskit.recipe.scoring.measure import Row
from compresskit.recipe.scoring.metric import Metric

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, slots=True)
class Difference:
    """One row minus another, in the first metric, sample by sample."""

    row: str
    than: str
    role: str
    """The other row's."""
    metric: Metric
    mean: float
    each: tuple[float, ...]
    """Empty where the evaluation has no figures for single samples."""

    @property
    def gain(self) -> float:
        """By how much the row is better on average; below 0 if it is worse."""
        return self.metric.gain(self.mean)

    @property
    def better(self) -> int:
        """On how many samples the row is better than the other."""
        return sum(self.metric.gain(value) > 0 for value in self.each)

    def __str__(self) -> str:
        text = f"{self.row} minus {self.than}: {self.metric.signed(self.mean)} on average"
        if not self.each:
            return text
        low, high = self.metric.change(min(self.each)), self.metric.change(max(self.each))
        equal = sum(value == 0 for value in self.each)
        counted = f"better on {self.better} of {len(self.each)}" + (f", equal on {equal}" if equal else "")
        return f"{text} ({low} to {high}), {counted}"


def differences(rows: Sequence[Row]) -> list[Difference]:
    """The distilled student minus the best baseline and minus the student alone, where there are such rows.

    The first metric decides.
    """
    distilled = next((row for row in rows if row.role == "distilled"), None)
    metric = next(iter(distilled.columns), None) if distilled is not None else None
    if distilled is None or metric is None:
        return []
    baselines = [row for row in rows if row.role == "baseline"]
    best = max(baselines, key=lambda row: metric.gain(row.metrics[metric.name]), default=None)
    alone = next((row for row in rows if row.role == "alone"), None)
    return [_difference(distilled, other, metric) for other in (best, alone) if other is not None]


def value(row: Row, metric: Metric) -> str:
    """A row's figure in a metric."""
    return metric.figure(row.metrics[metric.name])


def table(rows: Sequence[Row], cell: Callable[[Row, Metric], str] = value) -> "Table":
    """The rows for a terminal; the best value of each metric is bold.

    Args:
        rows: What to show.
        cell: The text of a row's figure in a metric.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    metrics = rows[0].columns
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column("")
    for title in (*(metric.title for metric in metrics), "parameters", "MACs"):
        shown.add_column(title, justify="right")
    best = {metric.name: max(metric.gain(row.metrics[metric.name]) for row in rows) for metric in metrics}
    for row in rows:
        styles = ["bold" if metric.gain(row.metrics[metric.name]) == best[metric.name] else "" for metric in metrics]
        cells = [Text(cell(row, metric), style) for metric, style in zip(metrics, styles, strict=True)]
        shown.add_row(Text(row.name), *cells, f"{row.parameters:,}", amount(row.macs))
    return shown


def amount(count: int) -> str:
    """A count of work in three figures: `1.23 G`."""
    for size, letter in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g} {letter}"
    return str(count)


def _difference(row: Row, other: Row, metric: Metric) -> Difference:
    mine, theirs = row.per_sample.get(metric.name, ()), other.per_sample.get(metric.name, ())
    each: tuple[float, ...] = tuple(a - b for a, b in zip(mine, theirs, strict=True)) if mine and theirs else ()
    mean = fmean(each) if each else row.metrics[metric.name] - other.metrics[metric.name]
    return Difference(row.name, other.name, other.role, metric, mean, each)


def words(values: Sequence[Any]) -> str:
    """`a, b and c`."""
    *most, last = map(str, values)
    return f"{', '.join(most)} and {last}" if most else last
