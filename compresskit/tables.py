"""Tables of text, for a terminal and in Markdown."""

import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table as RichTable


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text below headings, names on the left and figures on the right. It prints by rich and by `str`."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    """Cells in the order of the headings. A row may end early."""
    title: str = ""
    """Line above the table."""
    notes: Sequence[str] = ()
    """Lines under it."""
    bold: Collection[tuple[int, int]] = ()
    """Row and column of each cell that a terminal shows bold."""
    dim: Collection[int] = ()
    """Numbers of the rows that a terminal shows less brightly."""
    left: Collection[int] = (0,)
    """Numbers of the columns that a terminal aligns to the left."""
    wraps: bool = False
    """True if a narrow terminal may wrap the inner headings; otherwise lines are as long as their cells."""

    def __rich__(self) -> "RenderableType":
        from rich.console import Group
        from rich.text import Text

        parts = [Text(self.title, style="bold")] if self.title else []
        notes = [Text("\n".join(self.notes), no_wrap=True, overflow="ignore")] if self.notes else []
        return Group(*parts, self.grid(), *notes)

    def __str__(self) -> str:
        return plain_text(self, width=200)

    def grid(self) -> "RichTable":
        """Return headings and rows as a table of rich, without title and notes."""
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
        for column, heading in enumerate(self.headings):
            fixed = not self.wraps or column in (0, len(self.headings) - 1)
            cells = [row[column] for row in self.rows if column < len(row)]
            widest = max(map(len, (heading, *cells)))  # cut figures are worse than long lines
            table.add_column(
                heading,
                justify="left" if column in self.left else "right",
                no_wrap=fixed,
                min_width=None if self.wraps else widest,
            )
        for number, row in enumerate(self.rows):
            styles = ["bold" if (number, column) in self.bold else "" for column in range(len(row))]
            cells = [Text(cell, style) for cell, style in zip(row, styles, strict=True)]
            table.add_row(*cells, style="dim" if number in self.dim else "")
        return table

    def markdown(self) -> str:
        """Return headings and rows in Markdown."""
        full = [[*row, *[""] * (len(self.headings) - len(row))] for row in self.rows]
        lines = [self.headings, ["---", *["---:"] * (len(self.headings) - 1)], *full]
        return "\n".join(
            f"| {' | '.join(cell.strip().replace('|', chr(92) + '|') for cell in line)} |" for line in lines
        )


def plain_text(renderable: "RenderableType", *, width: int = 140) -> str:
    """Return what a terminal of that width would show, without colours."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width)
    with console.capture() as capture:
        console.print(renderable, soft_wrap=True)
    return "\n".join(line.rstrip() for line in capture.get().rstrip().splitlines())
