"""Ratios that hold on a busy machine: both sides take turns, step by step, and only their ratio is reported."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Any

from compresskit.data import Batch, SampleLoader


class Fixed(list):
    """Samples without random choices."""

    variants = 1


class TakingTurns(SampleLoader):
    """Loader for the engine that first runs a step of the other side on each batch.

    `engine` and `other` are the seconds of each step. The engine's step lasts from the moment when it gets a batch
    until it requests the next one, so all its work in a step is included. Loading counts for neither side.

    Args:
        samples: Inputs and targets, in this order in every epoch.
        batch_size: Number of samples in a batch.
        other_step: Function of inputs and targets that runs a step of the other side.
    """

    def __init__(self, samples: Sequence[Any], batch_size: int, other_step: Callable[[Any, Any], object]) -> None:
        super().__init__(Fixed(samples), batch_size, shuffle=False)
        self.other_step = other_step
        self.engine: list[float] = []
        self.other: list[float] = []

    def batches(self, position: int, *part: int, **how: bool) -> Iterator[Batch]:
        """Yield the batches from number `position` on, without end."""
        for batch in super().batches(position, *part, **how):
            start = time.perf_counter()
            self.other_step(*batch.value)
            middle = time.perf_counter()
            self.other.append(middle - start)
            yield batch
            self.engine.append(time.perf_counter() - middle)


def report_ratio(
    name: str, ours: Sequence[float], theirs: Sequence[float], block: int = 10
) -> tuple[float, float, float]:
    """Print and return the median ratio of ours to theirs over blocks of steps, inside its 95 % bootstrap interval."""
    blocks = [slice(start, start + block) for start in range(0, min(len(ours), len(theirs)) - block + 1, block)]
    ratios = [median(ours[part]) / median(theirs[part]) for part in blocks]
    low, middle, high = interval(ratios)
    print(f"{name}: {middle:.3f}  [{low:.3f}, {high:.3f}]  ({len(ratios)} blocks of {block} steps)")
    return low, middle, high


def interval(values: Sequence[float], rounds: int = 2000) -> tuple[float, float, float]:
    """Return the median, between the ends of its 95 % bootstrap interval."""
    draw = random.Random(0)
    medians = sorted(median(draw.choices(values, k=len(values))) for _ in range(rounds))
    return medians[int(0.025 * rounds)], median(values), medians[int(0.975 * rounds)]
