"""Batches whose every random choice is a function of (seed, sample, epoch).

Nothing here depends on a global generator, on a worker or on earlier draws, so a run is the same with 0 or 8 workers
and continues anywhere by its position alone: `endless(loader, position, seed)`.
"""

import math
import re
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, default_collate

from compresskit.errors import CompressKitError, DataError, first_line
from compresskit.nested import tensors_in
from compresskit.randomness import RandomStream, seed_all


class SampleId(int):
    """The index of a sample that also knows its epoch and the run's seed.

    To a foreign dataset it is just the index. A dataset with random augmentation reads the rest:
    `rng(index.seed, index, index.epoch)`.
    """

    epoch: int
    seed: int

    def __new__(cls, index: int, epoch: int = 0, seed: int = 0) -> "SampleId":
        """Create an index with the epoch and the seed, which only our own datasets read."""
        sample = super().__new__(cls, index)
        sample.epoch = epoch
        sample.seed = seed
        return sample


def rng(seed: int, sample: int, epoch: int) -> np.random.Generator:
    """Return the generator for every random choice about one sample in one epoch."""
    return np.random.default_rng([seed, int(sample), epoch])


class _Stateless(Dataset):
    """A dataset in which even a draw from a global generator is a function of (seed, sample, epoch).

    It loads whole batches, because restoring the generators takes longer than making a small sample.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self._random = RandomStream(0)

    def __getitems__(self, samples: Sequence[SampleId]) -> list[Any]:
        with self._random:
            return [self._load(sample) for sample in samples]

    def _load(self, sample: SampleId) -> Any:
        seed_all(sample.seed, sample, sample.epoch)
        return load_sample(self.dataset, sample)


def load_sample(dataset: Any, index: int) -> Any:
    """Return one sample of a dataset. An error of torchvision's own datasets names the dataset and the sample.

    Raises:
        DataError: One of torchvision's datasets cannot make the sample from its options and files.
    """
    try:
        return dataset[index]
    except (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, CompressKitError) or not type(dataset).__module__.startswith("torchvision."):
            raise
        raise DataError(f"{type(dataset).__name__} cannot make sample {int(index)}: {first_line(error)}") from error


class SampleLoader:
    """Shuffled batches of a map-style dataset that can start at any position.

    Args:
        dataset: Anything with `__len__` and `__getitem__`; it is indexed by `SampleId`.
        batch_size: Samples a batch; the last batch of an epoch may be smaller.
        seed: Seed of the order and, through `SampleId.seed`, of the augmentation.
        workers: Number of worker processes. The batches do not depend on it.
        shuffle: Use a new order in each epoch; else that of the dataset.
        collate_fn: Function that makes a batch of a list of samples, as a DataLoader's; None stacks equal shapes.

    Raises:
        DataError: The dataset is empty.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        *,
        seed: int = 0,
        workers: int = 0,
        shuffle: bool = True,
        collate_fn: Callable[[list[Any]], Any] | None = None,
    ) -> None:
        if len(dataset) == 0:
            raise DataError(f"{type(dataset).__name__} holds no samples: there is nothing to train on")
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.workers = workers
        self.shuffle = shuffle
        self.collate_fn = stacked if collate_fn is None else collate_fn

    def __len__(self) -> int:
        return math.ceil(len(self.dataset) / self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        """Return the batches of the first epoch."""
        return _plain_errors(self._load(self._epoch(0)))

    def batches(self, position: int, rank: int = 0, ranks: int = 1, *, pinned: bool = False) -> Iterator["Batch"]:
        """Yield all batches from number `position` on, epoch after epoch, without end.

        Args:
            position: Number of batches that were consumed before.
            rank: Rank of this process among those that share each batch.
            ranks: Number of processes that share each batch. Together they load the samples that one process alone
                would load. A process that is left without a sample of a batch gets one that does not count.
            pinned: Put the batches into page-locked memory, from which a GPU copies faster.
        """
        requests: deque[_Part] = deque()  # workers run ahead of the batches that were yielded
        batches = _plain_errors(self._load(_record(self._parts(position, rank, ranks), requests), pinned=pinned))
        for number, value in enumerate(batches, start=position):
            epoch, place = divmod(number, len(self))
            part = requests.popleft()
            yield Batch(value, epoch, place == len(self) - 1, tuple(part.samples), part.counted, part.total)

    def _parts(self, position: int, rank: int, ranks: int) -> Iterator["_Part"]:
        epoch, place = divmod(position, len(self))
        while True:
            for samples in self._epoch(epoch, place):
                mine = samples[rank::ranks]
                yield _Part(mine or samples[:1], len(mine), len(samples))
            epoch, place = epoch + 1, 0

    def _epoch(self, epoch: int, place: int = 0) -> Iterator[list[SampleId]]:
        """Yield the samples of each batch from number `place` on, one batch at a time: an epoch may have millions."""
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
            collate_fn=self.collate_fn,
            worker_init_fn=_outlive_first_signals,
        )


def stacked(samples: list[Any]) -> Any:
    """Return a batch of samples whose tensors have equal shapes.

    Raises:
        DataError: The samples cannot be stacked; the message has what they hold, or their shapes.
    """
    try:
        return default_collate(samples)
    except (RuntimeError, TypeError, ValueError) as error:
        kinds = re.findall(r"found <class '([\w.]+)'>", str(error))
        shapes = list(dict.fromkeys(str([tuple(t.shape) for t in tensors_in(sample)]) for sample in samples))
        if kinds:
            hint = ", of which the dataset's transform should make a tensor" if "PIL" in kinds[0] else ""
            what = f"a sample holds a {kinds[0]}{hint}"
        else:
            what = f"their tensors have shapes {' and '.join(shapes[:2])}" if len(shapes) > 1 else first_line(error)
        raise DataError(
            f"samples cannot be stacked to a batch: {what}; give SampleLoader a collate_fn, or a recipe data.collate"
        ) from None


def _outlive_first_signals(_worker: int) -> None:
    """Let a worker process pass over the first of each signal that stops a run.

    A terminal or a scheduler sends it to all processes. The main one finishes its step and saves, for which it needs
    its workers; it ends them afterwards. A second signal ends the worker.
    """

    def pass_over(signum: int, _: Any) -> None:
        signal.signal(signum, signal.SIG_DFL)

    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), pass_over)


class _Part(NamedTuple):
    """The samples that one process loads of a batch, and how many of them and of the whole batch count."""

    samples: list[SampleId]
    counted: int
    total: int


def _plain_errors(batches: Iterable[Any]) -> Iterator[Any]:
    """Yield batches; an error of our own is raised with its message alone."""
    try:
        yield from batches
    except CompressKitError as error:  # a worker wraps it in a traceback, whose last line is the message
        before, _, message = str(error).rpartition(f"{type(error).__name__}: ")
        if not before:
            raise
        raise type(error)(message.strip()) from None


def _record(parts: Iterable[_Part], requests: deque[_Part]) -> Iterator[list[SampleId]]:
    for part in parts:
        requests.append(part)
        yield part.samples


@dataclass(frozen=True, slots=True)
class _Once:
    """A batch sampler for DataLoader that may have no end and no length."""

    samples: Iterable[list[SampleId]]

    def __iter__(self) -> Iterator[list[SampleId]]:
        return iter(self.samples)


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch as the loader yielded it, and its place in the data."""

    value: Any
    epoch: int
    last: bool
    """True if the epoch ends with this batch."""
    samples: tuple[SampleId, ...] = ()
    """The batch's samples, if the loader knows them."""
    counted: int | None = None
    """Number of samples that count, if the loader knows it: a process without a share of the batch has one that does
    not. For a foreign loader it is what the loader put into the batch; a collate function may have changed it."""
    total: int | None = None
    """Number of samples that count in all processes that share the batch, if the loader knows it."""


def endless(
    loader: Iterable[Any], position: int, seed: int, rank: int = 0, ranks: int = 1, *, pinned: bool = False
) -> Iterator[Batch]:
    """Return the batches of any loader from number `position` on, epoch after epoch, without end.

    A `SampleLoader` jumps there, yields the share of process `rank` of `ranks`, and pins it with `pinned`. A foreign
    loader (DataLoader, list, …) is replayed: its epoch runs under generators of its own, seeded by (seed, epoch), and
    is skipped forward. It is not split between processes.

    Raises:
        DataError: The loader yields nothing: it is empty, or an iterator that can be walked only once.
    """
    if isinstance(loader, SampleLoader):
        part = (rank, ranks) if ranks > 1 else ()
        how = {"pinned": True} if pinned else {}
        return loader.batches(position, *part, **how)  # a subclass need not have parameters that are not used here
    return _replayed(loader, position, seed)


def _replayed(loader: Iterable[Any], position: int, seed: int) -> Iterator[Batch]:
    epoch, seen = 0, 0
    if isinstance(loader, Sequence):  # it has no state, so whole epochs can be skipped
        epoch = position // len(loader) if len(loader) else 0
        seen = epoch * len(loader)
    while True:
        count = 0
        for (value, last), size in zip(_with_last(_isolated(loader, seed, epoch)), batch_sizes(loader), strict=False):
            count += 1
            if seen >= position:
                yield Batch(value, epoch, last, counted=size)
            seen += 1
        if count == 0:
            what = "is empty" if epoch == 0 else f"yielded nothing in pass {epoch + 1}: it can be walked only once"
            raise DataError(f"the loader ({type(loader).__name__}) {what}; give a DataLoader or a list of batches")
        epoch += 1


def batch_sizes(loader: Iterable[Any]) -> Iterator[int | None]:
    """Yield the number of samples that a loader puts into each batch of an epoch, and None where it is not known.

    It is known of a `SampleLoader`, and of a DataLoader that makes batches of one size from a sampler with a length.
    """
    count = size = None
    if isinstance(loader, SampleLoader):
        count, size = len(loader.dataset), loader.batch_size
    elif isinstance(loader, DataLoader) and type(loader.batch_sampler) is BatchSampler:
        sampler = loader.batch_sampler.sampler
        count, size = len(sampler) if isinstance(sampler, Sized) else None, loader.batch_size
    while count is not None and size is not None and count > 0:
        yield min(size, count)
        count -= size
    while True:
        yield None


def _isolated(loader: Iterable[Any], seed: int, epoch: int) -> Iterator[Any]:
    """Yield one pass over a foreign loader, whose random numbers are a stream of their own."""
    if type(loader) in (list, tuple):  # these draw no random numbers
        yield from loader
        return
    sampler = getattr(loader, "sampler", None)
    owners = [getattr(owner, "generator", None) for owner in (loader, sampler)]
    generators = [generator for generator in owners if isinstance(generator, torch.Generator)]
    if set_epoch := getattr(sampler, "set_epoch", None):
        set_epoch(epoch)
    iterator, stream = None, RandomStream(seed, epoch, others=generators)
    while True:
        with stream:
            iterator = iter(loader) if iterator is None else iterator
            try:
                value = next(iterator)
            except StopIteration:
                return
        yield value


def _with_last(values: Iterator[Any]) -> Iterator[tuple[Any, bool]]:
    """Yield each value with a flag for the last one, by looking one ahead."""
    try:
        current = next(values)
    except StopIteration:
        return
    for following in values:
        yield current, False
        current = following
    yield current, True
