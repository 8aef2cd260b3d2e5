"""Intervals of a mean by the bootstrap: how far it may be from the mean of all samples of the same kind."""

from collections.abc import Sequence

import numpy as np

LEVEL = 0.95


RESAMPLES = 10_000


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean by the percentile bootstrap over 10,000 resamples.

    The interval covers the choice of the samples and nothing else, such as the seed of the training. With few samples
    it is too narrow. Equal values always give the same interval.

    Returns:
        Both ends; None for fewer than two values, or where a value is not finite.

    Reference:
        Efron & Tibshirani, *An Introduction to the Bootstrap*, 1993, section 13.3.
    """
    samples = np.asarray(values, dtype=np.float64)
    if len(samples) < 2 or not np.isfinite(samples).all():
        return None
    picks = np.random.default_rng(0).integers(len(samples), size=(RESAMPLES, len(samples)))
    low, high = np.quantile(samples[picks].mean(axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
