from dataclasses import replace

import pytest
import torch

from compresskit.recipe.scoring.measure import Contender, Row, measure
from compresskit.recipe.scoring.metric import Metric
from compresskit.recipe.scoring.summary import differences, table

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


def test_a_gain_is_what_is_better_whichever_way_that_is():
    assert ACCURACY.gain(3.0, than=1.0) == 2.0
    assert LOSS.gain(3.0, than=1.0) == -2.0


def _rows():
    def row(name, role, *losses):
        metrics = {"cross_entropy": sum(losses) / len(losses)}
        return Row(name, role, metrics, {"cross_entropy": losses}, 1, 1, {"cross_entropy": "nats"}, ["cross_entropy"])

    return [
        row("guess", "baseline", 3.0, 3.0),
        row("mean", "baseline", 2.0, 2.0),
        row("student alone", "alone", 1.0, 0.5),
        row("student distilled", "distilled", 0.5, 0.5),
    ]


def test_where_less_is_better_the_lowest_baseline_is_the_best_and_falling_is_gaining():
    mean, alone = differences(_rows())
    assert (mean.than, mean.gain, mean.better) == ("mean", 1.5, 2)
    assert (alone.mean, alone.gain, alone.better) == (-0.25, 0.25, 1)
    assert str(alone).endswith("-0.2500 nats on average (-0.5000 to +0.0000), better on 1 of 2, equal on 1")


def test_where_less_is_better_the_lowest_value_is_bold():
    shown = table(_rows())
    (cells,) = [column._cells for column in shown.columns if column.header == "CROSS-ENTROPY (nats)"]
    assert [str(cell.style) for cell in cells] == ["", "", "", "bold"]


def test_an_evaluations_units_and_directions_are_kept_with_its_rows(tmp_path):
    class Evaluation:
        units = {"error": "mm"}  # noqa: RUF012
        lower_is_better = "error"

        def __call__(self, model):
            return {"error": float(model.in_features)}

    contender = Contender("student", "alone", torch.nn.Linear(2, 2))
    for _ in range(2):  # measured, then read from the file
        (row,) = measure([contender], Evaluation(), torch.zeros(1, 2), tmp_path, seed=0)
        assert row.columns == [Metric("error", "mm", lower_is_better=True)]


def test_a_row_of_an_evaluation_that_says_nothing_has_no_unit_and_more_is_better():
    row = replace(_rows()[0], units={}, lower_is_better=())
    assert row.columns == [Metric("cross_entropy")]
