import pytest

from compresskit.recipe.reading.load import load_recipe
from compresskit.recipe.scoring.card import card
from compresskit.recipe.scoring.differences import differences

ENVIRONMENT = {
    "packages": {"compresskit": "1.0", "torch": "2.0"},
    "commit": "abc",
    "device": "cpu",
    "started": "2026-11-22T00:00:00",
}


@pytest.fixture
def card_of(toy):
    """The card of a run of the toy recipe that had these rows."""

    def text(rows, samples=()):
        return card(load_recipe(toy), rows, differences(rows), ENVIRONMENT, inputs="4 x 8 x 8", samples=samples)

    return text


def test_the_card_names_the_samples_on_which_the_teacher_adds_nothing(card_of, rows):
    assert "The teacher helps: +0.250 dB on average, but not on 1 of 3: sample 1." in card_of(rows)
    assert "not on 1 of 3: cat." in card_of(rows, ["cat", "cup", "temple"])


def test_the_card_counts_many_samples_and_does_not_list_them(card_of, row):
    alone = row("student alone", "alone", *[30.0] * 40)
    distilled = row("student distilled", "distilled", *[31.0] * 20, *[30.0] * 15, *[29.0] * 5)
    text = card_of([alone, distilled])
    assert "The teacher helps: +0.375 dB on average, better on 20 of 40 samples and worse on 5." in text
    assert "better on 20 of 40, equal on 15." in text


def test_the_card_says_when_the_teacher_adds_nothing_at_all(card_of, row, rows):
    text = card_of([*rows[:3], row("student alone", "alone", 33.0, 33.0, 32.5), rows[4]])
    assert "**The teacher adds nothing**" in text
    assert "(-1.083 dB on average; it helps on 1 of 3 samples)" in text


def test_the_card_says_when_the_teacher_always_helps_and_when_a_baseline_is_better(card_of, row, rows):
    alone = row("student alone", "alone", 20.0, 20.0, 20.0)
    text = card_of([*rows[:3], alone, row("student distilled", "distilled", 25, 26, 27)])
    assert "The teacher helps: +6.000 dB on average, and on each of the 3 samples." in text
    assert "The student does not reach the best baseline, linear." in text


def test_the_card_says_when_the_teacher_is_no_better_than_its_student(card_of, row, rows):
    text = card_of([*rows[:2], row("teacher", "teacher", 30.0, 30.0, 30.0), *rows[3:]])
    assert "The teacher itself is no better than its student (+1.750 dB for the student)." in text


def test_the_card_holds_recipe_preset_commit_data_and_figures(card_of, rows):
    text = card_of(rows)
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
