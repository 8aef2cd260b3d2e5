"""How far a mean may be from that of all samples like these: intervals by the bootstrap."""

from collections.abc import Sequence

import numpy as np

LEVEL = 0.95


RESAMPLES = 10_000


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of the mean, by the percentile bootstrap over 10,000 resamples; the same for the same values.

    It speaks of other samples of the same kind. With few samples it is too narrow.

    Returns:
        Its ends; None for fewer than two values, or where one is not finite.

    Reference:
        Efron & Tibshirani, *An Introduction to the Bootstrap*, 1993, section 13.3.
    """
    each = np.asarray(values, dtype=np.float64)
    if len(each) < 2 or not np.isfinite(each).all():
        return None
    picks = np.random.default_rng(0).integers(len(each), size=(RESAMPLES, len(each)))
    low, high = np.quantile(each[picks].mean(axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
