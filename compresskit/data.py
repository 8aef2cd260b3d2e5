"""Batches whose every random choice is a function of (seed, sample, epoch).

Nothing here depends on a global generator, on a worker or on what was drawn before, so a run is the same with 0 or 8
workers and continues anywhere by its position alone: `endless(loader, position, seed)`.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from compresskit.errors import CompressKitError, DataError
from compresskit.randomness import World, seed_all


class SampleId(int):
    """The index of a sample that also knows its epoch and the run's seed.

    To a foreign dataset it is just the index. A dataset with random augmentation reads the rest:
    `rng(index.seed, index, index.epoch)`.
    """

    epoch: int
    seed: int

    def __new__(cls, index: int, epoch: int = 0, seed: int = 0) -> "SampleId":
        """An index, with what only our own datasets read."""
        sample = super().__new__(cls, index)
        sample.epoch = epoch
        sample.seed = seed
        return sample


def rng(seed: int, sample: int, epoch: int) -> np.random.Generator:
    """The generator for every random choice about one sample in one epoch."""
    return np.random.default_rng([seed, int(sample), epoch])


class _Stateless(Dataset):
    """A dataset in which even a draw from a global generator is a function of (seed, sample, epoch).

    It is asked by the batch: to put the generators back takes longer than to make a small sample.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self._world = World(0)

    def __getitems__(self, samples: Sequence[SampleId]) -> list[Any]:
        with self._world:
            return [self._drawn(sample) for sample in samples]

    def _drawn(self, sample: SampleId) -> Any:
        seed_all(sample.seed, sample, sample.epoch)
        return self.dataset[sample]


class SampleLoader:
    """Shuffled batches of a map-style dataset that can start at any position.

    Args:
        dataset: Anything with `__len__` and `__getitem__`; it is indexed by `SampleId`.
        batch_size: Samples a batch; the last batch of an epoch may be smaller.
        seed: Decides the order and, through `SampleId.seed`, the augmentation.
        workers: Loader processes. The batches do not depend on it.
        shuffle: A new order each epoch; otherwise the dataset's own.

    Raises:
        DataError: The dataset is empty.
    """

    def __init__(self, dataset: Any, batch_size: int, *, seed: int = 0, workers: int = 0, shuffle: bool = True) -> None:
        if len(dataset) == 0:
            raise DataError(f"{type(dataset).__name__} holds no samples: there is nothing to train on")
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.workers = workers
        self.shuffle = shuffle

    def __len__(self) -> int:
        return math.ceil(len(self.dataset) / self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        """The batches of the first epoch."""
        return iter(self._load(self._epoch(0)))

    def batches(self, position: int, rank: int = 0, ranks: int = 1, *, pinned: bool = False) -> Iterator["Batch"]:
        """All batches from number `position` on, epoch after epoch, without end.

        Args:
            position: Batches that were consumed before.
            rank: Which process this is of those that share each batch.
            ranks: How many these are. Together they see what one alone would. Where a batch has no sample for a
                process, it is given one that does not count.
            pinned: Whether they are in memory from which a GPU copies faster.
        """
        asked: deque[_Part] = deque()  # workers are ahead of what is yielded
        batches = iter(self._load(_noted(self._parts(position, rank, ranks), asked), pinned=pinned))
        number = position
        while True:
            try:
                value = next(batches)
            except CompressKitError as error:  # a worker wraps it in a traceback, of which the last line is ours
                raise type(error)(str(error).rpartition(f"{type(error).__name__}: ")[2].strip()) from None
            epoch, place = divmod(number, len(self))
            part = asked.popleft()
            yield Batch(value, epoch, place == len(self) - 1, tuple(part.samples), part.counted, part.total)
            number += 1

    def _parts(self, position: int, rank: int, ranks: int) -> Iterator["_Part"]:
        epoch, place = divmod(position, len(self))
        while True:
            for samples in self._epoch(epoch, place):
                mine = samples[rank::ranks]
                yield _Part(mine or samples[:1], len(mine), len(samples))
            epoch, place = epoch + 1, 0

    def _epoch(self, epoch: int, place: int = 0) -> Iterator[list[SampleId]]:
        """The samples of each batch from number `place` on, made as they are asked for: an epoch may be millions."""
        count = len(self.dataset)
        order = np.random.default_rng([self.seed, epoch]).permutation(count) if self.shuffle else range(count)
        for start in range(place * self.batch_size, count, self.batch_size):
            yield [SampleId(int(index), epoch, self.seed) for index in order[start : start + self.batch_size]]

    def _load(self, samples: Iterable[list[SampleId]], *, pinned: bool = False) -> Iterable[Any]:
        return DataLoader(
            _Stateless(self.dataset),
            batch_sampler=_Once(samples),  # pyright: ignore[reportArgumentType]  (any iterable of lists will do)
            num_workers=self.workers,
            pin_memory=pinned,
        )


class _Part(NamedTuple):
    """What one process loads of a batch."""

    samples: list[SampleId]
    counted: int
    total: int


def _noted(parts: Iterable[_Part], notes: deque[_Part]) -> Iterator[list[SampleId]]:
    for part in parts:
        notes.append(part)
        yield part.samples


@dataclass(frozen=True, slots=True)
class _Once:
    """What DataLoader accepts as a batch sampler: something to iterate, here without end and without a length."""

    samples: Iterable[list[SampleId]]

    def __iter__(self) -> Iterator[list[SampleId]]:
        return iter(self.samples)


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch as the loader gave it, and where in the data it stands."""

    value: Any
    epoch: int
    last: bool
    """Whether the epoch ends with this batch."""
    samples: tuple[SampleId, ...] = ()
    """Which samples these are, where the loader tells."""
    counted: int | None = None
    """How many of them count, where the loader tells: a process with no part in a batch is given one that does not."""
    total: int | None = None
    """How many count in the batch as a whole, of which other processes have the rest; where the loader tells."""


def endless(
    loader: Iterable[Any], position: int, seed: int, rank: int = 0, ranks: int = 1, *, pinned: bool = False
) -> Iterator[Batch]:
    """The batches of any loader from number `position` on, epoch after epoch, without end.

    A `SampleLoader` jumps there, gives the part of process `rank` of `ranks`, and pins it if asked to. A foreign loader
    (DataLoader, list, …) is replayed: its epoch runs under generators seeded by (seed, epoch), which the caller's
    random numbers do not touch, and is skipped forward. It gives what it gives, in every process.

    Raises:
        DataError: The loader yields nothing: it is empty, or an iterator that can be walked only once.
    """
    if isinstance(loader, SampleLoader):
        part = (rank, ranks) if ranks > 1 else ()
        how = {"pinned": True} if pinned else {}
        return loader.batches(position, *part, **how)  # a subclass need not know what is not asked for
    return _replayed(loader, position, seed)


def _replayed(loader: Iterable[Any], position: int, seed: int) -> Iterator[Batch]:
    epoch, seen = 0, 0
    if isinstance(loader, Sequence):  # no state at all: whole epochs need not be walked
        epoch = position // len(loader) if len(loader) else 0
        seen = epoch * len(loader)
    while True:
        count = 0
        for value, last in _with_last(_isolated(loader, seed, epoch)):
            count += 1
            if seen >= position:
                yield Batch(value, epoch, last)
            seen += 1
        if count == 0:
            what = "is empty" if epoch == 0 else f"yielded nothing in pass {epoch + 1}: it can be walked only once"
            raise DataError(f"the loader ({type(loader).__name__}) {what}; give a DataLoader or a list of batches")
        epoch += 1


def _isolated(loader: Iterable[Any], seed: int, epoch: int) -> Iterator[Any]:
    """One pass over a foreign loader, in a random world of its own that goes on between two batches."""
    if type(loader) in (list, tuple):  # nothing is drawn to look at these
        yield from loader
        return
    sampler = getattr(loader, "sampler", None)
    owners = [getattr(owner, "generator", None) for owner in (loader, sampler)]
    generators = [generator for generator in owners if isinstance(generator, torch.Generator)]
    if set_epoch := getattr(sampler, "set_epoch", None):
        set_epoch(epoch)
    iterator, world = None, World(seed, epoch, others=generators)
    while True:
        with world:
            iterator = iter(loader) if iterator is None else iterator
            try:
                value = next(iterator)
            except StopIteration:
                return
        yield value


def _with_last(values: Iterator[Any]) -> Iterator[tuple[Any, bool]]:
    """Each value with whether it is the last one: looks one ahead."""
    try:
        current = next(values)
    except StopIteration:
        return
    for following in values:
        yield current, False
        current = following
    yield current, True
