"""Methods beside each other under several conditions: the tables of an evaluation, for a terminal and in Markdown."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from compresskit.recipe.scoring.bootstrap import LEVEL, interval
from compresskit.recipe.scoring.metric import Metric
from compresskit.recipe.terminal import plain_text

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


Writer = Callable[[Sequence[float], Callable[[float], str]], str]
"""Writes the mean of some values, given how one value is written."""


@dataclass(frozen=True, slots=True)
class Score:
    """What one method came to under one condition."""

    condition: str
    """Empty where the evaluation has only one."""
    method: str
    per_sample: Mapping[str, Sequence[float]]
    """Each metric of each sample, in the data's order; of an evaluation without these, the means alone."""
    columns: Sequence[Metric]

    def mean(self, metric: Metric) -> float:
        """The metric's mean over the samples."""
        return fmean(self.per_sample[metric.name])

    def figures(self) -> dict[str, Any]:
        """Each metric's mean, its interval and its values, as `evaluation.json` has them."""
        return {
            name: {"mean": fmean(values), "interval": interval(values), "each": list(values)}
            for name, values in self.per_sample.items()
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """All scores of an evaluation. It prints well: a table for each condition.

    Means have bootstrap intervals. Samples differ more than methods do, so the last column has the difference to the
    first method, sample by sample, with an interval of its own: two methods differ if it leaves 0 out, however much
    the intervals of their means overlap.
    """

    title: str
    scores: Sequence[Score]
    """By condition, and within one in the order of the methods."""
    samples: Sequence[str]
    """What the samples are called; empty where they have no names."""
    folder: Path | None = None
    """Where everything is."""

    def conditions(self) -> dict[str, list[Score]]:
        """The scores under each condition."""
        found: dict[str, list[Score]] = {}
        for score in self.scores:
            found.setdefault(score.condition, []).append(score)
        return found

    def __rich__(self) -> "RenderableType":
        from rich.console import Group
        from rich.text import Text

        shown: list[RenderableType] = []
        for condition, scores in self.conditions().items():
            shown += [Text(f"{condition}, {self._counted(scores)}".removeprefix(", "), style="bold"), _table(scores)]
        if any(len(scores) > 1 for scores in self.conditions().values()):
            shown.append(Text(f"± is half of the {LEVEL:.0%} bootstrap interval of the mean difference"))
        if self.folder is not None:
            shown.append(Text(f"All of it is in {self.folder}", no_wrap=True, overflow="ignore"))
        return Group(*shown)

    def __str__(self) -> str:
        return plain_text(self)

    def markdown(self) -> str:
        """The same tables, and the first metric of each sample."""
        parts = [f"# {self.title}", f"In brackets {LEVEL:.0%} bootstrap intervals of the mean over the samples."]
        for condition, scores in self.conditions().items():
            parts.append(f"## {condition}, {self._counted(scores)}".replace("## , ", "## "))
            parts.append(
                _markdown(
                    _headings(scores), [_cells(score, scores[0], _with_interval, _with_interval) for score in scores]
                )
            )
            if each := self._each(scores):
                parts.append(each)
        return "\n\n".join(parts) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data: by condition and method."""
        conditions = {
            condition: {score.method: score.figures() for score in scores}
            for condition, scores in self.conditions().items()
        }
        return {"title": self.title, "samples": list(self.samples), "level": LEVEL, "conditions": conditions}

    def _counted(self, scores: Sequence[Score]) -> str:
        count = len(next(iter(scores[0].per_sample.values()), ()))
        return f"{count} sample{'s' * (count != 1)}"

    def _each(self, scores: Sequence[Score]) -> str:
        """The first metric of each sample, where samples have names."""
        metric = scores[0].columns[0]
        values = [score.per_sample[metric.name] for score in scores]
        if len(self.samples) != len(values[0]):
            return ""
        rows = [
            [name, *(metric.figure(value) for value in row)] for name, *row in zip(self.samples, *values, strict=True)
        ]
        return _markdown([metric.title, *(score.method for score in scores)], rows)


def _table(scores: Sequence[Score]) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(_headings(scores)):
        ends = number in (0, len(scores[0].columns) + 1)
        shown.add_column(heading, justify="right" if number else "left", no_wrap=ends)
    best = [max(metric.gain(score.mean(metric)) for score in scores) for metric in scores[0].columns]
    for score in scores:
        gains = [metric.gain(score.mean(metric)) for metric in score.columns]
        styles = ["", *("bold" if gain == most else "" for gain, most in zip(gains, best, strict=True)), ""]
        cells = _cells(score, scores[0], _plain, _with_half_width)
        shown.add_row(*(Text(cell, style) for cell, style in zip(cells, styles[: len(cells)], strict=True)))
    return shown


def _headings(scores: Sequence[Score]) -> list[str]:
    metrics = scores[0].columns
    against = [f"minus {scores[0].method}"] if len(scores) > 1 else []
    return ["", *(metric.title for metric in metrics), *against]


def _cells(score: Score, first: Score, mean: Writer, difference: Writer) -> list[str]:
    """The row of a score: its method, its means, and the difference to the first score in the first metric."""
    cells = [mean(score.per_sample[metric.name], metric.figure) for metric in score.columns]
    if score is first:
        return [score.method, *cells]
    metric = first.columns[0]
    pairs = zip(score.per_sample[metric.name], first.per_sample[metric.name], strict=True)
    return [score.method, *cells, difference([one - other for one, other in pairs], metric.change)]


def _plain(values: Sequence[float], written: Callable[[float], str]) -> str:
    return written(fmean(values))


def _with_interval(values: Sequence[float], written: Callable[[float], str]) -> str:
    """`38.62 [36.90, 40.22]`."""
    ends = interval(values)
    return written(fmean(values)) + ("" if ends is None else f" [{written(ends[0])}, {written(ends[1])}]")


def _with_half_width(values: Sequence[float], written: Callable[[float], str]) -> str:
    """`+0.76 ± 0.42`: what a terminal has room for."""
    ends = interval(values)
    return written(fmean(values)) + ("" if ends is None else f" ± {written((ends[1] - ends[0]) / 2).lstrip('+')}")


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)]]
    lines += [[*row, *[""] * (len(headings) - len(row))] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
