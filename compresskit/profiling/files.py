"""Profiles and comparisons in files: JSON and CSV for programs, Markdown for people."""

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path

from compresskit.errors import DataError
from compresskit.profiling.compare import Comparison
from compresskit.profiling.grids import Grid, comparison_grid, layer_grid
from compresskit.profiling.notes import comparison_notes, profile_notes
from compresskit.profiling.report import ModelProfile


def write(
    result: ModelProfile | Comparison,
    *,
    json: Path | None = None,
    csv: Path | None = None,
    markdown: Path | None = None,
) -> None:
    """Write the files that are wanted.

    Raises:
        DataError: One cannot be written.
    """
    for path, write_one in ((json, write_json), (csv, write_csv), (markdown, write_markdown)):
        if path is not None:
            write_one(path, result)


def write_json(path: Path, result: ModelProfile | Comparison) -> None:
    """All figures, exact."""
    _write(path, json.dumps(result.to_dict(), indent=2) + "\n")


def write_csv(path: Path, result: ModelProfile | Comparison) -> None:
    """A row for each module of each model, whole numbers without units."""
    profiles = result.profiles if isinstance(result, Comparison) else {result.model: result}
    text = io.StringIO()
    rows = [
        {
            "model": name,
            **asdict(layer),
            "output_shape": "" if layer.output_shape is None else "x".join(map(str, layer.output_shape)),
            "uncounted": " ".join(layer.uncounted),
        }
        for name, profile in profiles.items()
        for layer in profile.layers
    ]
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    _write(path, text.getvalue())


def write_markdown(path: Path, result: ModelProfile | Comparison) -> None:
    """The table that a terminal shows, and the lines under it."""
    if isinstance(result, Comparison):
        grid, lines, first = comparison_grid(result), comparison_notes(result), result.reference
        title = " and ".join(result.profiles)
    else:
        grid, lines, first = layer_grid(result), profile_notes(result), result
        title = result.model
    inputs = ", ".join(f"`{text}`" for text in first.inputs)
    notes = "\n".join(f"- {line}" for line in lines)
    _write(path, f"# {title}\n\nInputs: {inputs}\n\n{markdown_table(grid)}\n\n{notes}\n")


def markdown_table(grid: Grid) -> str:
    """A table in Markdown."""
    lines = [grid.header, tuple("---" if number == 0 else "---:" for number in range(len(grid.header))), *grid.rows]
    return "\n".join(f"| {' | '.join(cell.strip().replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error
