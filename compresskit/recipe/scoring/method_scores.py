"""The figures of several methods under several conditions: the result of an evaluation by itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from compresskit.recipe.scoring.bootstrap import LEVEL, interval
from compresskit.recipe.scoring.metric import Metric
from compresskit.recipe.scoring.tables import best_cells
from compresskit.tables import Table, plain_text

if TYPE_CHECKING:
    from rich.console import RenderableType

Writer = Callable[[Sequence[float], Callable[[float], str]], str]
"""A function that writes the mean of some values, by a function that writes one value."""


@dataclass(frozen=True, slots=True)
class Score:
    """The figures of one method under one condition."""

    condition: str
    """Empty if the evaluation has only one."""
    method: str
    per_sample: Mapping[str, Sequence[float]]
    """The metrics of each sample, in the order of the data; if the evaluation gives means only, these."""
    columns: Sequence[Metric]
    """The metrics in order, each with its unit and direction."""

    def mean(self, metric: Metric) -> float:
        """Return a metric's mean over the samples."""
        return fmean(self.per_sample[metric.name])

    def figures(self) -> dict[str, Any]:
        """Return each metric's mean, interval and values as `evaluation.json` holds them."""
        return {
            name: {"mean": fmean(values), "interval": interval(values), "each": list(values)}
            for name, values in self.per_sample.items()
        }


@dataclass(frozen=True, slots=True)
class MethodScores:
    """Scores of all methods under all conditions. They print as a table for each condition.

    Means have bootstrap intervals. Samples differ more than methods do, so the last column holds the difference to the
    first method, sample by sample, with an interval of its own: two methods differ if this interval leaves 0 out,
    however much the intervals of their means overlap.
    """

    title: str
    scores: Sequence[Score]
    """Scores by condition, and within a condition in the order of the methods."""
    samples: Sequence[str]
    """Names of the samples; empty if they have none."""
    folder: Path | None = None
    """Folder with tables, figures and pictures."""

    def conditions(self) -> dict[str, list[Score]]:
        """Return the scores by condition."""
        by_condition: dict[str, list[Score]] = {}
        for score in self.scores:
            by_condition.setdefault(score.condition, []).append(score)
        return by_condition

    def __rich__(self) -> "RenderableType":
        from rich.console import Group
        from rich.text import Text

        parts: list[RenderableType] = []
        for scores in self.conditions().values():
            parts += [Text(_heading(scores), style="bold"), _table(scores, _mean, _mean_and_half_width)]
        if any(len(scores) > 1 for scores in self.conditions().values()):
            parts.append(Text(f"± is half of the {LEVEL:.0%} bootstrap interval of the mean difference"))
        if self.folder is not None:
            parts.append(Text(f"All of it is in {self.folder}", no_wrap=True, overflow="ignore"))
        return Group(*parts)

    def __str__(self) -> str:
        return plain_text(self)

    def markdown(self) -> str:
        """Return the same tables with all intervals, and the first metric of each sample."""
        parts = [f"# {self.title}", f"In brackets {LEVEL:.0%} bootstrap intervals of the mean over the samples."]
        for scores in self.conditions().values():
            table = _table(scores, _mean_and_interval, _mean_and_interval)
            parts += [f"## {_heading(scores)}", table.markdown(), *self._sample_table(scores)]
        return "\n\n".join(parts) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, by condition and method."""
        conditions = {
            condition: {score.method: score.figures() for score in scores}
            for condition, scores in self.conditions().items()
        }
        return {"title": self.title, "samples": list(self.samples), "level": LEVEL, "conditions": conditions}

    def _sample_table(self, scores: Sequence[Score]) -> list[str]:
        """Return a table of the first metric of each sample; none if the samples have no names."""
        metric = scores[0].columns[0]
        values = [score.per_sample[metric.name] for score in scores]
        if len(self.samples) != len(values[0]):
            return []
        rows = [[name, *map(metric.figure, row)] for name, *row in zip(self.samples, *values, strict=True)]
        return [Table([metric.title, *(score.method for score in scores)], rows).markdown()]


def _heading(scores: Sequence[Score]) -> str:
    count = len(next(iter(scores[0].per_sample.values()), ()))
    return f"{scores[0].condition}, {count} sample{'s' * (count != 1)}".removeprefix(", ")


def _table(scores: Sequence[Score], mean: Writer, difference: Writer) -> Table:
    """Return a row for each method: its means, and from the second on the difference in the first metric."""
    first, metrics = scores[0], scores[0].columns
    metric = metrics[0]
    rows = []
    for score in scores:
        row = [score.method, *(mean(score.per_sample[metric.name], metric.figure) for metric in metrics)]
        if score is not first:
            pairs = zip(score.per_sample[metric.name], first.per_sample[metric.name], strict=True)
            row.append(difference([value - other for value, other in pairs], metric.change))
        rows.append(row)
    against = [f"minus {first.method}"] if len(scores) > 1 else []
    means = [[score.mean(metric) for metric in metrics] for score in scores]
    headings = ["", *(metric.title for metric in metrics), *against]
    return Table(headings, rows, bold=best_cells(metrics, means), wraps=True)


def _mean(values: Sequence[float], text: Callable[[float], str]) -> str:
    return text(fmean(values))


def _mean_and_interval(values: Sequence[float], text: Callable[[float], str]) -> str:
    """Return a text such as `38.62 [36.90, 40.22]`."""
    ends = interval(values)
    return text(fmean(values)) + ("" if ends is None else f" [{text(ends[0])}, {text(ends[1])}]")


def _mean_and_half_width(values: Sequence[float], text: Callable[[float], str]) -> str:
    """Return a text such as `+0.76 ± 0.42`, which fits into a terminal."""
    ends = interval(values)
    return text(fmean(values)) + ("" if ends is None else f" ± {text((ends[1] - ends[0]) / 2).lstrip('+')}")
