from dataclasses import replace

import pytest
from rich.console import Console

from compresskit.recipe.reading.load import load_recipe
from compresskit.recipe.scoring.card import card
from compresskit.recipe.scoring.measure import Row
from compresskit.recipe.scoring.summary import amount, differences, table


def _row(name, role, *values):
    per_sample = {"psnr": values}
    return Row(name, role, {"psnr": sum(values) / len(values)}, per_sample, 1500, 2_345_678, units={"psnr": "dB"})


ROWS = [
    _row("bicubic", "baseline", 20.0, 22.0, 24.0),
    _row("linear", "baseline", 30.0, 31.0, 32.0),
    _row("teacher", "teacher", 31.0, 32.0, 33.0),
    _row("student alone", "alone", 30.5, 31.5, 32.5),
    _row("student distilled", "distilled", 30.25, 32.0, 33.0),
]

ENVIRONMENT = {
    "packages": {"compresskit": "1.0", "torch": "2.0"},
    "commit": "abc",
    "device": "cpu",
    "started": "2026-11-22T00:00:00",
}


def _card(toy, rows, samples=()):
    return card(load_recipe(toy), rows, differences(rows), ENVIRONMENT, inputs="4 x 8 x 8", samples=samples)


def test_differences_are_paired_with_the_best_baseline_and_with_the_student_alone():
    best, alone = differences(ROWS)
    assert (best.than, best.each, best.better) == ("linear", (0.25, 1.0, 1.0), 3)
    assert str(best) == "student distilled minus linear: +0.750 dB on average (+0.250 to +1.000), better on 3 of 3"
    assert str(alone) == (
        "student distilled minus student alone: +0.250 dB on average (-0.250 to +0.500), better on 2 of 3"
    )


def test_without_figures_for_single_samples_the_means_are_compared():
    rows = [replace(row, per_sample={}) for row in ROWS]
    assert str(differences(rows)[0]) == "student distilled minus linear: +0.750 dB on average"


def test_without_an_evaluation_or_a_distilled_student_there_is_nothing_to_compare():
    assert differences([replace(row, metrics={}, per_sample={}) for row in ROWS]) == []
    assert differences(ROWS[:4]) == []


def test_the_table_has_a_line_for_each_row_and_the_best_figure_is_bold():
    console = Console(width=100, force_terminal=True, color_system="truecolor")
    with console.capture() as capture:
        console.print(table(ROWS))
    lines = capture.get().splitlines()
    assert [name for name in (row.name for row in ROWS) if not any(name in line for line in lines)] == []
    assert [line for line in lines if "\x1b[1m" in line and "32.00" in line] == [
        line for line in lines if "teacher" in line
    ]
    assert "1,500" in capture.get()
    assert "2.35 M" in capture.get()


@pytest.mark.parametrize(("count", "text"), [(0, "0"), (999, "999"), (1000, "1 k"), (1.5e9, "1.5 G"), (2e12, "2 T")])
def test_work_is_told_in_three_figures(count, text):
    assert amount(int(count)) == text


def test_the_card_says_on_which_samples_the_teacher_adds_nothing(toy):
    assert "The teacher helps: +0.250 dB on average, but not on 1 of 3: sample 1." in _card(toy, ROWS)
    assert "not on 1 of 3: cat." in _card(toy, ROWS, ["cat", "cup", "temple"])


def test_the_card_counts_many_samples_and_does_not_list_them(toy):
    alone = _row("student alone", "alone", *[30.0] * 40)
    distilled = _row("student distilled", "distilled", *[31.0] * 20, *[30.0] * 15, *[29.0] * 5)
    text = _card(toy, [alone, distilled])
    assert "The teacher helps: +0.375 dB on average, better on 20 of 40 samples and worse on 5." in text
    assert "better on 20 of 40, equal on 15." in text


def test_the_card_says_when_the_teacher_adds_nothing_at_all(toy):
    rows = [*ROWS[:3], _row("student alone", "alone", 33.0, 33.0, 32.5), ROWS[4]]
    text = _card(toy, rows)
    assert "**The teacher adds nothing**" in text
    assert "(-1.083 dB on average; it helps on 1 of 3 samples)" in text


def test_the_card_says_when_it_always_helps_and_when_a_baseline_is_better(toy):
    rows = [
        *ROWS[:3],
        _row("student alone", "alone", 20.0, 20.0, 20.0),
        _row("student distilled", "distilled", 25, 26, 27),
    ]
    text = _card(toy, rows)
    assert "The teacher helps: +6.000 dB on average, and on each of the 3 samples." in text
    assert "The student does not reach the best baseline, linear." in text


def test_the_card_says_when_the_teacher_is_no_better_than_its_student(toy):
    rows = [*ROWS[:2], _row("teacher", "teacher", 30.0, 30.0, 30.0), *ROWS[3:]]
    assert "The teacher itself is no better than its student (+1.750 dB for the student)." in _card(toy, rows)


def test_the_card_tells_recipe_preset_commit_data_and_figures(toy):
    text = _card(toy, ROWS)
    for expected in (
        "# toy",
        "- **student**: `torch.nn.Sequential`",
        "- **preset**: quick",
        "- **commit**: abc",
        "| linear | 31.00 | 1,500 | 2.35 M |",
        "_target_: toy_parts.Points",
        "1. features: 4 steps, `mse(1)`",
        "2. output: 6 steps, `mse(.)` and `l1(., target)`",
        "The student alone: the same student from the same initial weights",
    ):
        assert expected in text
