import pytest
from rich.console import Console

from compresskit.tables import Table, plain_text

ROWS = [["conv", "1,500", "2.35 M"], ["a | b", "7"]]
TABLE = Table(["module", "parameters", "multiply-accumulates"], ROWS, "Two modules", ["a note"], dim={1})


def _printed(table, *, width, colours=False):
    console = Console(width=width, force_terminal=colours, color_system="truecolor" if colours else None)
    with console.capture() as capture:
        console.print(table, soft_wrap=True)
    return capture.get().splitlines()


def test_a_table_prints_its_title_its_rows_and_its_notes():
    assert str(TABLE).splitlines() == [
        "Two modules",
        "",
        " module   parameters   multiply-accumulates",
        " ──────────────────────────────────────────",
        " conv          1,500                 2.35 M",
        " a | b             7",
        "",
        "a note",
    ]


def test_in_markdown_a_row_that_ends_early_is_filled_up_and_a_bar_is_no_column():
    assert TABLE.markdown().splitlines() == [
        "| module | parameters | multiply-accumulates |",
        "| --- | ---: | ---: |",
        "| conv | 1,500 | 2.35 M |",
        "| a \\| b | 7 |  |",
    ]


def test_bold_cells_and_dim_rows_are_marked_in_a_terminal():
    lines = _printed(Table(["", "x"], [["one", "1"], ["two", "2"]], bold={(0, 1)}, dim={1}), width=40, colours=True)
    assert [line for line in lines if "\x1b[1m1" in line] == [line for line in lines if "one" in line]
    assert [line for line in lines if "\x1b[2m" in line] == [line for line in lines if "two" in line]


@pytest.mark.parametrize("wraps", [False, True])
def test_in_a_narrow_terminal_figures_are_never_cut_and_inner_headings_wrap_where_they_may(wraps):
    table = Table(["", "a long heading", "last"], [["name", "123.45", "67.89"]], wraps=wraps)
    lines = _printed(table, width=26)
    assert any("123.45" in line and "67.89" in line for line in lines)
    assert any("a long heading" in line for line in lines) is not wraps


def test_plain_text_has_no_colours_and_no_blanks_at_line_ends():
    text = plain_text(TABLE)
    assert "\x1b" not in text
    assert [line for line in text.splitlines() if line != line.rstrip()] == []
