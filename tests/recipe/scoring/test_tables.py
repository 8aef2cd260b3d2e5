from rich.console import Console

from compresskit.recipe.scoring.tables import run_table


def test_a_table_of_a_run_has_a_line_for_each_row_and_the_best_figure_in_bold(rows):
    console = Console(width=100, force_terminal=True, color_system="truecolor")
    with console.capture() as capture:
        console.print(run_table(rows))
    lines = capture.get().splitlines()
    assert [name for name in (row.name for row in rows) if not any(name in line for line in lines)] == []
    assert [line for line in lines if "\x1b[1m" in line and "32.00" in line] == [
        line for line in lines if "teacher" in line
    ]
    assert "1,500" in capture.get()
    assert "2.35 M" in capture.get()


def test_of_a_metric_that_improves_as_it_falls_the_lowest_value_is_bold(losses):
    table = run_table(losses)
    assert table.headings[1] == "CROSS-ENTROPY (nats)"
    assert table.bold == {(3, 1)}
    (cells,) = [column._cells for column in table.grid().columns if column.header == "CROSS-ENTROPY (nats)"]
    assert [str(cell.style) for cell in cells] == ["", "", "", "bold"]


def test_equal_figures_are_both_bold(row):
    assert run_table([row("one", "baseline", 1.0), row("two", "teacher", 1.0)]).bold == {(0, 1), (1, 1)}
