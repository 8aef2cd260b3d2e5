"""What a run came to: the table at its end, and paired differences between its rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from compresskit.recipe.evaluation import Row

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, slots=True)
class Difference:
    """One row minus another, in the first metric, sample by sample; higher is better."""

    row: str
    than: str
    role: str
    """The other row's."""
    metric: str
    mean: float
    each: tuple[float, ...]
    """Empty where the evaluation has no figures for single samples."""

    @property
    def better(self) -> int:
        """On how many samples the row is better than the other."""
        return sum(value > 0 for value in self.each)

    def __str__(self) -> str:
        text = f"{self.row} minus {self.than}: {signed(self.metric, self.mean)} on average"
        if not self.each:
            return text
        low, high = difference_figure(self.metric, min(self.each)), difference_figure(self.metric, max(self.each))
        return f"{text} ({low} to {high}), better on {self.better} of {len(self.each)}"


def differences(rows: Sequence[Row]) -> list[Difference]:
    """The distilled student minus the best baseline and minus the student alone, where there are such rows.

    The first metric decides.
    """
    distilled = next((row for row in rows if row.role == "distilled"), None)
    metric = next(iter(distilled.metrics), None) if distilled is not None else None
    if distilled is None or metric is None:
        return []
    baselines = [row for row in rows if row.role == "baseline"]
    best = max(baselines, key=lambda row: row.metrics[metric], default=None)
    alone = next((row for row in rows if row.role == "alone"), None)
    return [_difference(distilled, other, metric) for other in (best, alone) if other is not None]


def figure(metric: str, value: float) -> str:
    """A metric's value as the table shows it."""
    return f"{value:.2f}" if metric == "psnr" else f"{value:.4f}"


def difference_figure(metric: str, value: float) -> str:
    """A difference of two values of a metric, with its sign."""
    return f"{value:+.3f}" if metric == "psnr" else f"{value:+.4f}"


def signed(metric: str, value: float) -> str:
    """A difference of two values of a metric, with its sign and unit."""
    return f"{difference_figure(metric, value)} {'dB' if metric == 'psnr' else metric}"


def table(rows: Sequence[Row]) -> "Table":
    """The rows for a terminal; the best value of each metric is bold."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    metrics = list(rows[0].metrics)
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column("")
    for title in (*(metric.upper().replace("_", "-") for metric in metrics), "parameters", "MACs"):
        shown.add_column(title, justify="right")
    best = {metric: max(row.metrics[metric] for row in rows) for metric in metrics}
    for row in rows:
        styles = ["bold" if row.metrics[metric] == best[metric] else "" for metric in metrics]
        cells = [Text(figure(m, row.metrics[m]), style) for m, style in zip(metrics, styles, strict=True)]
        shown.add_row(Text(row.name), *cells, f"{row.parameters:,}", amount(row.macs))
    return shown


def amount(count: int) -> str:
    """A count of work in three figures: `1.23 G`."""
    for size, letter in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g} {letter}"
    return str(count)


def _difference(row: Row, other: Row, metric: str) -> Difference:
    mine, theirs = row.per_sample.get(metric, ()), other.per_sample.get(metric, ())
    each: tuple[float, ...] = tuple(a - b for a, b in zip(mine, theirs, strict=True)) if mine and theirs else ()
    mean = fmean(each) if each else row.metrics[metric] - other.metrics[metric]
    return Difference(row.name, other.name, other.role, metric, mean, each)


def words(values: Sequence[Any]) -> str:
    """`a, b and c`."""
    *most, last = map(str, values)
    return f"{', '.join(most)} and {last}" if most else last
