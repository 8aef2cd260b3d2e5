"""The table of a run's rows, with the best figures in bold."""

from collections.abc import Callable, Sequence

from compresskit.recipe.scoring.measure import Row
from compresskit.recipe.scoring.metric import Metric
from compresskit.tables import Table
from compresskit.units import count_text


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
            [row.name, *(cell(row, metric) for metric in metrics), f"{row.parameters:,}", count_text(row.macs)]
            for row in rows
        ],
        bold=best_cells(metrics, [[row.metrics[metric.name] for metric in metrics] for row in rows]),
        wraps=True,
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
