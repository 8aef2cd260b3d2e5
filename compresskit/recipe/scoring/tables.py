"""Tables of figures, for a terminal and in Markdown."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compresskit.recipe.scoring.measure import Row
from compresskit.recipe.scoring.metric import Metric

if TYPE_CHECKING:
    from rich.table import Table as RichTable


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text below headings: names on the left, figures on the right."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    """Cells in the order of the headings. A row may end early."""
    bold: Collection[tuple[int, int]] = ()
    """Row and column of each cell that a terminal shows bold."""

    def __rich__(self) -> "RichTable":
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
        for column, heading in enumerate(self.headings):
            outermost = column in (0, len(self.headings) - 1)  # a narrow terminal wraps the inner headings
            table.add_column(heading, justify="right" if column else "left", no_wrap=outermost)
        for number, row in enumerate(self.rows):
            styles = ["bold" if (number, column) in self.bold else "" for column in range(len(row))]
            table.add_row(*(Text(cell, style) for cell, style in zip(row, styles, strict=True)))
        return table

    def markdown(self) -> str:
        """Return the table in Markdown."""
        full = [[*row, *[""] * (len(self.headings) - len(row))] for row in self.rows]
        lines = [self.headings, ["---", *["---:"] * (len(self.headings) - 1)], *full]
        return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def run_table(rows: Sequence[Row], cell: Callable[[Row, Metric], str] = Row.figure) -> Table:
    """Return the table at a run's end, with the best figure of each metric in bold.

    Args:
        rows: Rows of the run.
        cell: Function that writes a row's figure in a metric.
    """
    metrics = rows[0].columns
    return Table(
        ["", *(metric.title for metric in metrics), "parameters", "MACs"],
        [
            [row.name, *(cell(row, metric) for metric in metrics), f"{row.parameters:,}", amount(row.macs)]
            for row in rows
        ],
        best_cells(metrics, [[row.metrics[metric.name] for metric in metrics] for row in rows]),
    )


def best_cells(metrics: Sequence[Metric], values: Sequence[Sequence[float]]) -> set[tuple[int, int]]:
    """Return row and column of the best value of each metric, below a first column of names.

    Args:
        metrics: Metrics of the columns.
        values: Values by row, in the order of the metrics.
    """
    best = set()
    for column, (metric, one_metric) in enumerate(zip(metrics, zip(*values, strict=True), strict=True), start=1):
        gains = [metric.gain(value) for value in one_metric]
        best |= {(row, column) for row, gain in enumerate(gains) if gain == max(gains)}
    return best


def amount(count: int) -> str:
    """Return a count of operations in three figures: `1.23 G`."""
    for size, letter in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g} {letter}"
    return str(count)
