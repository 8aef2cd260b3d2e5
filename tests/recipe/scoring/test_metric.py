import pytest

from compresskit.recipe.scoring.metric import Metric, metrics_by_name

ACCURACY = Metric("accuracy", "%")
LOSS = Metric("cross_entropy", "nats", lower_is_better=True)


@pytest.mark.parametrize(
    ("metric", "title", "value", "change"),
    [
        (Metric("psnr", "dB"), "PSNR (dB)", "1.50", "-0.250 dB"),
        (ACCURACY, "ACCURACY (%)", "1.50", "-0.25 percentage points"),
        (LOSS, "CROSS-ENTROPY (nats)", "1.5000", "-0.2500 nats"),
        (Metric("ms_ssim"), "MS-SSIM", "1.5000", "-0.2500 ms ssim"),
    ],
)
def test_a_metric_reads_with_its_unit(metric, title, value, change):
    assert (metric.title, metric.figure(1.5), metric.signed(-0.25)) == (title, value, change)


def test_a_gain_is_positive_for_the_better_value_in_either_direction():
    assert ACCURACY.gain(3.0, than=1.0) == 2.0
    assert LOSS.gain(3.0, than=1.0) == -2.0


def test_a_single_name_in_lower_is_better_is_not_taken_letter_by_letter():
    assert metrics_by_name(["error", "err"], {"error": "mm"}, "error") == [
        Metric("error", "mm", lower_is_better=True),
        Metric("err"),
    ]


def test_a_row_without_units_and_directions_has_no_unit_and_higher_is_better(row):
    assert row("one", "baseline", 1.0, metric="score", unit="").columns == [Metric("score")]
