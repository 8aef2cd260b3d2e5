"""Batches in groups: what one optimizer step consumes, on the right device, and where in the data it stands."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple
from zlib import crc32

import torch
from torch import Tensor
from torch.utils.data import DistributedSampler

from compresskit.data import Batch, SampleId, SampleLoader, endless
from compresskit.distill.precision import Precision
from compresskit.distill.processes import Processes
from compresskit.errors import DataError
from compresskit.nested import batch_size, moved, rows_of, tensors_in

Unpack = Callable[[Any], tuple[Any, Any]]


def unpack_batch(batch: Any) -> tuple[Any, Any]:
    """(inputs, targets) of a 2-sequence or of a mapping with these keys; a tensor, or a list of one, has no targets.

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
    found = f"keys {', '.join(map(str, batch))}" if isinstance(batch, Mapping) else type(batch).__name__
    found += f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
    raise DataError(
        f"a batch is (inputs, targets) or a mapping with the keys inputs and targets, got {found}; "
        "pass fit(..., unpack=function) to say which part is which"
    )


def same_on_all(inputs: Any, processes: Processes) -> bool:
    """Whether all processes were given the same nested batch."""
    if processes.is_single:
        return True
    mine = [
        crc32(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        for tensor in tensors_in(inputs)
    ]
    return all(theirs == mine for theirs in processes.gather(mine))


_SHARED = "every process is given the same batches: each takes its rows of them"


_OWN = "the processes are given different batches: each batch is taken for a part of one larger batch"


class PreparedBatch(NamedTuple):
    """One batch, ready for the models."""

    inputs: Any
    targets: Any
    samples: tuple[SampleId, ...] = ()
    """Which samples these are, where the loader tells."""


class StepBatches(NamedTuple):
    """What this process has of one optimizer step."""

    batches: list[PreparedBatch]
    counted: list[int]
    """How many samples of each batch count."""
    total: int
    """How many count in all, in all processes."""


class BatchStream:
    """The training data from `position` on, without end.

    Several processes share each batch of a `SampleLoader`, and of a foreign loader that gives the same batches in all
    of them. One that does not, such as a DataLoader with a DistributedSampler, is taken to give each its own part.

    Args:
        loader: Anything that can be iterated again and again.
        position: Batches that were consumed before.
        seed: For the replay of loaders that draw from global generators.
        unpack: Makes (inputs, targets) of a batch; None follows the convention.
        device: Where the tensors go.
        precision: In which memory format.
        processes: The processes that share the run.
        note: Is told how they share the data, where that had to be found out.
    """

    def __init__(
        self,
        loader: Iterable[Any],
        position: int,
        seed: int,
        unpack: Unpack | None,
        device: torch.device,
        precision: Precision,
        processes: Processes,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._note = note
        self.position = position
        self.begins = False
        """Whether the next batch is the first of an epoch."""
        self._batches = endless(loader, position, seed, processes.rank, processes.count, pinned=device.type == "cuda")
        self._unpack = unpack or unpack_batch
        self._device, self._precision, self._processes = device, precision, processes
        self._ahead: Batch | None = None
        sharded = isinstance(getattr(loader, "sampler", None), DistributedSampler)
        self._split: bool | None = False if processes.is_single or sharded or isinstance(loader, SampleLoader) else None
        """Whether each process takes its rows of what a foreign loader gives to all; None: the first batch tells."""

    def peek(self) -> PreparedBatch:
        """The next batch, which stays the next one."""
        if self._ahead is None:
            self._ahead = next(self._batches)
        return self._ready(self._ahead)[0]

    def take(self, count: int) -> StepBatches:
        """The next `count` batches, or fewer where the epoch ends before."""
        batches, counted, totals = [], [], []
        while len(batches) < count:
            batch, self._ahead = self._ahead or next(self._batches), None
            fed, own, total = self._ready(batch)
            batches.append(fed)
            counted.append(own)
            totals.append(total)
            self.position += 1
            self.begins = batch.last
            if batch.last:
                break
        total = sum(totals) or int(self._processes.total(torch.tensor(sum(counted), device=self._processes.device)))
        return StepBatches(batches, counted, total)

    def _ready(self, batch: Batch) -> tuple[PreparedBatch, int, int]:
        """A batch, how many of its samples count, and of how many in all processes; 0 where these do not share it."""
        inputs, targets = self._unpack(batch.value)
        counted = total = batch_size(inputs)
        if not self._processes.is_single:
            inputs, targets, counted, total = self._part(batch, inputs, targets, total)
        inputs = self._precision.to_memory_format(moved(inputs, self._device))
        return PreparedBatch(inputs, moved(targets, self._device), batch.samples), counted, total

    def _part(self, batch: Batch, inputs: Any, targets: Any, given: int) -> tuple[Any, Any, int, int]:
        """What of the `given` samples is this process's, how many of these count, and of how many; see `_ready`."""
        if batch.total is not None and batch.counted is not None:
            return inputs, targets, batch.counted, batch.total
        if self._split is None:
            self._split = same_on_all(inputs, self._processes)
            self._note(_SHARED if self._split else _OWN)
        if not self._split:
            return inputs, targets, given, 0
        rank, processes = self._processes.rank, self._processes.count
        counted = len(range(rank, given, processes))
        rows = slice(rank, None, processes) if counted else slice(1)  # nothing of it: one that does not count
        return rows_of(inputs, given, rows), rows_of(targets, given, rows), counted, given
