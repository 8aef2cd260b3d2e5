"""Rows of a small run, worked out by hand."""

import pytest

from compresskit.recipe.scoring.measure import Row


def _row(name, role, *values, metric="psnr", unit="dB", lower_is_better=()):
    means, per_sample = {metric: sum(values) / len(values)}, {metric: values}
    return Row(name, role, means, per_sample, 1500, 2_345_678, {metric: unit}, lower_is_better)


@pytest.fixture
def row():
    """A row of one metric, by default PSNR, from its values per sample."""
    return _row


@pytest.fixture
def rows():
    """A row of each role, over three samples."""
    return [
        _row("bicubic", "baseline", 20.0, 22.0, 24.0),
        _row("linear", "baseline", 30.0, 31.0, 32.0),
        _row("teacher", "teacher", 31.0, 32.0, 33.0),
        _row("student alone", "alone", 30.5, 31.5, 32.5),
        _row("student distilled", "distilled", 30.25, 32.0, 33.0),
    ]


@pytest.fixture
def losses():
    """Rows of a metric that improves as it falls, over two samples."""

    def loss(name, role, *values):
        return _row(name, role, *values, metric="cross_entropy", unit="nats", lower_is_better=["cross_entropy"])

    return [
        loss("guess", "baseline", 3.0, 3.0),
        loss("mean", "baseline", 2.0, 2.0),
        loss("student alone", "alone", 1.0, 0.5),
        loss("student distilled", "distilled", 0.5, 0.5),
    ]
