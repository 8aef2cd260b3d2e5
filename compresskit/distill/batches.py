"""Batches of one optimizer step, on the right device, and the position in the data."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from zlib import crc32

import torch
from torch import Tensor
from torch.utils.data import DistributedSampler

from compresskit.data import Batch, SampleId, SampleLoader, endless
from compresskit.distill.execution import Execution
from compresskit.distill.processes import Processes
from compresskit.distill.samples import lengths_text, may_be_time_first, rows_of, sample_count
from compresskit.errors import DataError
from compresskit.nested import tensors_in, to_device

Unpack = Callable[[Any], Any]
"""Makes (inputs, targets) or (inputs, targets, count) of a batch, or a mapping with these keys; count is the number of
its samples."""


def unpack_batch(batch: Any) -> tuple[Any, Any]:
    """Return (inputs, targets) of a 2-sequence or a mapping with these keys; a tensor or a list of one has no targets.

    Raises:
        DataError: The batch is neither; the message says what `unpack` is for.
    """
    if isinstance(batch, Mapping) and "inputs" in batch:
        return batch["inputs"], batch.get("targets")
    if isinstance(batch, Tensor):
        return batch, None
    if isinstance(batch, (tuple, list)) and len(batch) in (1, 2):
        return batch[0], batch[1] if len(batch) == 2 else None
    if hasattr(batch, "__iter__") and not isinstance(batch, (tuple, list, Mapping)):
        raise DataError(f"one batch is wanted, got a {type(batch).__name__}; if it gives batches: next(iter(loader))")
    content = f"keys {', '.join(map(str, batch))}" if isinstance(batch, Mapping) else type(batch).__name__
    content += f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
    raise DataError(
        f"a batch is (inputs, targets) or a mapping with the keys inputs and targets, got {content}; "
        "pass fit(..., unpack=function) to say which part is which"
    )


class Unpacked(NamedTuple):
    """The parts of a batch."""

    inputs: Any
    targets: Any = None
    samples: int | None = None
    """Number of samples, where the user says it."""


def unpacked(batch: Any, unpack: Unpack | None) -> Unpacked:
    """Return the parts of a batch, by the user's function or by convention.

    Raises:
        DataError: The batch or the function's result is of another form, or there is no sample in it.
    """
    parts = batch if unpack is None else unpack(batch)
    if isinstance(parts, Mapping) and "inputs" in parts:
        result = Unpacked(parts["inputs"], parts.get("targets"), parts.get("count"))
    elif unpack is None:
        result = Unpacked(*unpack_batch(batch))
    elif isinstance(parts, (tuple, list)) and 1 <= len(parts) <= 3:
        result = Unpacked(*parts)
    else:
        raise DataError(f"unpack must return (inputs, targets) or (inputs, targets, count), got {type(parts).__name__}")
    inputs, targets, count = result
    if (sample_count(inputs, targets) if count is None else count) == 0:
        raise DataError(f"a batch holds no samples ({lengths_text(inputs, targets)}); leave it out of the loader")
    return result


def uncountable(inputs: Any, targets: Any, why: str) -> DataError:
    """Return the error about a batch whose samples have to be counted and cannot be."""
    return DataError(
        f"it is not known how many samples a batch holds, with {lengths_text(inputs, targets)}, and {why}: let "
        "unpack return (inputs, targets, count), or give a DataLoader, which knows it"
    )


def same_on_all(inputs: Any, processes: Processes) -> bool:
    """Return True if all processes have the same nested batch."""
    if processes.is_single:
        return True
    mine = [
        crc32(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        for tensor in tensors_in(inputs)
    ]
    return all(theirs == mine for theirs in processes.gather(mine))


class PreparedBatch(NamedTuple):
    """One batch, ready for the models."""

    inputs: Any
    targets: Any
    samples: tuple[SampleId, ...] = ()
    """Samples in the batch, where the loader tells."""


class StepBatches(NamedTuple):
    """The part of one optimizer step's data that this process has."""

    batches: list[PreparedBatch]
    counted: list[int]
    """Number of samples that count, for each batch."""
    total: int
    """Number of samples that count, over all batches and processes."""
    samples: int | None = None
    """The total, where it is known: one batch alone needs no count."""


_SHARED = "every process is given the same batches: each takes its rows of them"
_OWN = "the processes are given different batches: each batch is taken for a part of one larger batch"


class BatchStream:
    """The training data from `position` on, without end.

    Several processes share each batch of a `SampleLoader`, and of a foreign loader that gives the same batches in all
    of them. A loader that does not, such as a DataLoader with a DistributedSampler, gives each process its own part.

    Args:
        loader: Anything that can be iterated again and again.
        position: Number of batches that were consumed before.
        execution: Seed for the replay of loaders that draw from global generators; device, memory format, processes.
        unpack: Function that makes (inputs, targets), or (inputs, targets, count), of a batch; None follows the
            convention.
        note: Function that receives a line of text about how processes share the data, where that had to be found out.
        time_first: Whether the model may read a first dimension as time, so that it does not count samples.
    """

    def __init__(
        self,
        loader: Iterable[Any],
        position: int,
        execution: Execution,
        unpack: Unpack | None,
        note: Callable[[str], None] = lambda _: None,
        *,
        time_first: bool = False,
    ) -> None:
        device, processes = execution.device, execution.processes
        self._device, self._processes, self._precision = device, processes, execution.precision
        self._note = note
        self._loader, self._unpack, self._time_first = loader, unpack, time_first
        self.position = position
        self.epoch_begins = False
        """True if the next batch is the first of an epoch."""
        pinned = device.type == "cuda"
        self._batches = endless(loader, position, execution.seed, processes.rank, processes.count, pinned=pinned)
        self._next: Batch | None = None
        sharded = isinstance(getattr(loader, "sampler", None), DistributedSampler)
        self._split: bool | None = False if processes.is_single or sharded or isinstance(loader, SampleLoader) else None
        """True if each process takes its rows of what a foreign loader gives to all; None until the first batch."""

    def peek(self) -> PreparedBatch:
        """Return the next batch, which stays the next one."""
        if self._next is None:
            self._next = next(self._batches)
        return self._prepare(self._next, alone=True)[0]

    def take(self, count: int) -> StepBatches:
        """Return the next `count` batches, or fewer where the epoch ends before."""
        batches, counted, totals = [], [], []
        alone = count == 1 and self._processes.is_single
        while len(batches) < count:
            batch, self._next = self._next or next(self._batches), None
            prepared, own, total = self._prepare(batch, alone=alone)
            batches.append(prepared)
            counted.append(own)
            totals.append(total)
            self.position += 1
            self.epoch_begins = batch.last
            if batch.last:
                break
        if alone and counted == [None]:
            return StepBatches(batches, [1], 1)
        total = sum(totals) or int(self._processes.total(torch.tensor(sum(counted), device=self._processes.device)))
        return StepBatches(batches, counted, total, total)

    def _prepare(self, batch: Batch, *, alone: bool) -> tuple[PreparedBatch, Any, Any]:
        """Return a batch, its samples that count here, and those in all processes: 0 if these have own batches.

        Args:
            batch: The batch as the loader yielded it.
            alone: Whether the batch makes a step of one process, so that its count may be None.
        """
        inputs, targets, counted = unpacked(batch.value, self._unpack)
        if counted is None:
            declared = batch.counted if batch.total is None else None
            counted = sample_count(inputs, targets, declared)
            if self._time_first and not alone and declared is None and batch.total is None:
                counted = None if may_be_time_first(inputs, targets) else counted
        total = counted
        if not self._processes.is_single:
            inputs, targets, counted, total = self._own_part(batch, inputs, targets, counted)
        elif counted is None and not alone:
            raise uncountable(inputs, targets, "accumulate weighs each batch by them")
        inputs = self._precision.to_memory_format(to_device(inputs, self._device))
        return PreparedBatch(inputs, to_device(targets, self._device), batch.samples), counted, total

    def _own_part(self, batch: Batch, inputs: Any, targets: Any, size: int | None) -> tuple[Any, Any, int, int]:
        """Return this process's part of a batch of `size` samples, and the counts of `_prepare`."""
        if batch.total is not None and batch.counted is not None:
            return inputs, targets, batch.counted, batch.total
        if self._split is None:
            self._split = same_on_all(inputs, self._processes)
            self._note(_SHARED if self._split else _OWN)
            if self._split:
                self._check_all()
        if size is None:
            raise uncountable(inputs, targets, "processes weigh their parts by them")
        if not self._split:
            return inputs, targets, size, 0
        rank, processes = self._processes.rank, self._processes.count
        counted = len(range(rank, size, processes))
        rows = slice(rank, None, processes) if counted else slice(1)  # no row left: one that does not count
        return rows_of(inputs, size, rows, at_top=True), rows_of(targets, size, rows), counted, size

    def _check_all(self) -> None:
        """Check a list's batches before the first is shared out: boxes may be as many as images in one batch by chance.

        Raises:
            DataError: A batch holds something that is not one for each sample.
        """
        for batch in self._loader if isinstance(self._loader, Sequence) and self._unpack is None else ():
            inputs, targets, count = unpacked(batch, None)
            count = sample_count(inputs, targets) if count is None else count
            if count is None:
                raise uncountable(inputs, targets, "every process takes its part of them")
            for part in (inputs, targets):
                rows_of(part, count, slice(1), at_top=part is inputs)
