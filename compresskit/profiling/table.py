"""Profiles and comparisons as a terminal shows them."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from compresskit.profiling.compare import Comparison
from compresskit.profiling.grids import DEPTH, Grid, comparison_grid, layer_grid
from compresskit.profiling.notes import comparison_notes, profile_notes
from compresskit.profiling.report import ModelProfile

if TYPE_CHECKING:
    from rich.console import RenderableType


def view(
    result: ModelProfile | Comparison, *, depth: int = DEPTH, sort: str = "model", top: int | None = None
) -> "RenderableType":
    """A result for a terminal; depth, sort and top are for the modules of one model."""
    if isinstance(result, Comparison):
        return comparison_view(result)
    return profile_view(result, depth=depth, sort=sort, top=top)


def profile_view(
    profile: ModelProfile, *, depth: int = DEPTH, sort: str = "model", top: int | None = None
) -> "RenderableType":
    """A profile for a terminal."""
    title = f"{profile.model}, {', '.join(profile.inputs)}"
    return _view(title, layer_grid(profile, depth=depth, sort=sort, top=top), profile_notes(profile))


def comparison_view(comparison: Comparison) -> "RenderableType":
    """A comparison for a terminal."""
    return _view(", ".join(comparison.reference.inputs), comparison_grid(comparison), comparison_notes(comparison))


def as_text(result: "RenderableType") -> str:
    """What a terminal would show, without colours and as wide as it is."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=200)
    with console.capture() as capture:
        console.print(result, soft_wrap=True)
    return "\n".join(line.rstrip() for line in capture.get().rstrip().splitlines())


def _view(title: str, grid: Grid, lines: Sequence[str]) -> "RenderableType":
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(grid.header):
        left = number == 0 or name in ("type", "")
        widest = max(len(row[number]) for row in (grid.header, *grid.rows))  # cut figures are worse than long lines
        shown.add_column(name, justify="left" if left else "right", no_wrap=True, min_width=widest)
    for number, row in enumerate(grid.rows):
        shown.add_row(*map(Text, row), style="dim" if number in grid.dim else "")
    return Group(Text(title, style="bold"), shown, Text("\n".join(lines), no_wrap=True, overflow="ignore"))
