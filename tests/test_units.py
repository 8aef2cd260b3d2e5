import pytest

from compresskit.units import budget_text, bytes_text, count_text, shape_text, share_text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00 k"),
        (41_830, "41.8 k"),
        (1.5e9, "1.50 G"),
        (2e12, "2.00 T"),
        (99_960, "100 k"),
        (999_400, "999 k"),
        (999_600, "1.00 M"),  # not 1000 k
    ],
)
def test_a_count_has_three_figures_and_a_power_of_1000(count, text):
    assert count_text(count) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (10_000, "9.77 KiB"), (2**40, "1.00 TiB")]
)
def test_memory_is_written_in_powers_of_1024(count, text):
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("count", "text"), [(512, "512 B"), (10_000, "10 KB"), (100_000, "100 KB"), (46_560, "46.6 KB"), (8e9, "8 GB")]
)
def test_a_budget_is_written_as_recipes_write_it(count, text):
    assert budget_text(count) == text


def test_a_share_of_nothing_is_no_text_and_a_shape_without_axes_is_a_scalar():
    assert (share_text(1, 8), share_text(0, 0)) == ("12.5 %", "")
    assert (shape_text((1, 4, 8)), shape_text(())) == ("1x4x8", "scalar")
