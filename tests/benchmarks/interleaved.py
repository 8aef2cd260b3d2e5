"""Ratios that a busy machine cannot bend: both sides take turns, step by step, and only their ratio is told."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Any

from compresskit.data import Batch, SampleLoader


class Fixed(list):
    """Samples in which nothing is random."""

    variants = 1


class TakingTurns(SampleLoader):
    """Gives the engine batches, and before each does a step of the other side on the same one.

    `engine` and `other` are the seconds that each step took: the engine's from when it was given a batch to when it
    asks for the next one, which is all that it does in a step. Loading is nobody's.

    Args:
        samples: Inputs and targets; epoch after epoch in this order.
        batch_size: Samples a batch.
        other_step: Is called with inputs and targets.
    """

    def __init__(self, samples: Sequence[Any], batch_size: int, other_step: Callable[[Any, Any], object]) -> None:
        super().__init__(Fixed(samples), batch_size, shuffle=False)
        self.other_step = other_step
        self.engine: list[float] = []
        self.other: list[float] = []

    def batches(self, position: int, *part: int, **how: bool) -> Iterator[Batch]:
        """The batches from number `position` on, without end."""
        for batch in super().batches(position, *part, **how):
            began = time.perf_counter()
            self.other_step(*batch.value)
            given = time.perf_counter()
            self.other.append(given - began)
            yield batch
            self.engine.append(time.perf_counter() - given)


def told(name: str, ours: Sequence[float], theirs: Sequence[float], block: int = 10) -> tuple[float, float, float]:
    """Print the median ratio of ours to theirs over neighbouring blocks, with a 95 % bootstrap interval."""
    blocks = [slice(start, start + block) for start in range(0, min(len(ours), len(theirs)) - block + 1, block)]
    ratios = [median(ours[part]) / median(theirs[part]) for part in blocks]
    low, middle, high = interval(ratios)
    print(f"{name}: {middle:.3f}  [{low:.3f}, {high:.3f}]  ({len(ratios)} blocks of {block} steps)")
    return low, middle, high


def interval(values: Sequence[float], rounds: int = 2000) -> tuple[float, float, float]:
    """The median, between the ends of its 95 % bootstrap interval."""
    draw = random.Random(0)
    medians = sorted(median(draw.choices(values, k=len(values))) for _ in range(rounds))
    return medians[int(0.025 * rounds)], median(values), medians[int(0.975 * rounds)]
