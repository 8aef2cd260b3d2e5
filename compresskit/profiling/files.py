"""Profiles and comparisons in files: JSON and CSV for programs, Markdown for people."""

import csv as csv_files
import io
import json as json_files
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from compresskit.errors import DataError
from compresskit.files import write_text
from compresskit.profiling.comparison import Comparison
from compresskit.profiling.report import ModelProfile


def write_files(
    result: ModelProfile | Comparison,
    *,
    json: Path | None = None,
    csv: Path | None = None,
    markdown: Path | None = None,
) -> None:
    """Write the requested files, each whole or not at all; a pipe or a device is written directly.

    Args:
        result: Profile or comparison to write.
        json: File for all figures, exact.
        csv: File for a row for each module of each model: whole numbers without units.
        markdown: File for the table that a terminal shows, and the notes under it.

    Raises:
        DataError: A file cannot be written.
    """
    for path, text in ((json, _json_text), (csv, _csv_text), (markdown, _markdown_text)):
        if path is not None:
            _write(path, text(result))


def _json_text(result: ModelProfile | Comparison) -> str:
    return json_files.dumps(result.to_dict(), indent=2) + "\n"


def _csv_text(result: ModelProfile | Comparison) -> str:
    rows = [
        {
            "model": name,
            **asdict(layer),
            "output_shape": "" if layer.output_shape is None else "x".join(map(str, layer.output_shape)),
            "uncounted": " ".join(layer.uncounted),
        }
        for name, profile in _profiles(result).items()
        for layer in profile.layers
    ]
    text = io.StringIO()
    writer = csv_files.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _markdown_text(result: ModelProfile | Comparison) -> str:
    profiles, table = _profiles(result), result.table()
    inputs = ", ".join(f"`{text}`" for text in next(iter(profiles.values())).inputs)
    notes = "\n".join(f"- {line}" for line in table.notes)
    return f"# {' and '.join(profiles)}\n\nInputs: {inputs}\n\n{table.markdown()}\n\n{notes}\n"


def _profiles(result: ModelProfile | Comparison) -> Mapping[str, ModelProfile]:
    return result.profiles if isinstance(result, Comparison) else {result.model: result}


def _write(path: Path, text: str) -> None:
    if not path.parent.is_dir():
        raise DataError(f"{path} cannot be written: there is no folder {path.parent}")
    is_replaceable = not path.is_symlink() and (path.is_file() or not path.exists())  # unlike /dev/stdout, or a pipe
    try:
        if is_replaceable:
            write_text(path, text)
        else:
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error
