"""Memory that a forward needs beside weights and inputs, computed from the lifetimes of its storages."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate

from compresskit.profiling.counting.operations import BEFORE_FORWARD, ForwardRecord

Lifetime = tuple[int, int, int]
"""Bytes of a storage, and the first and the last operation during which it is alive."""


@dataclass(frozen=True, slots=True)
class Activations:
    """Bytes of everything that the forward allocates, its outputs included."""

    peak: int
    """Most bytes at one time in eager mode: the names in `forward` keep their tensors alive."""
    peak_at: str
    """Path of the module that runs then."""
    cpu_peak: int
    """Most bytes at one time on this machine's CPU: `peak`, and the memory that convolutions borrow."""
    last_use_peak: int
    """Most bytes at one time for a runtime that frees each tensor after its last use."""
    largest_operation: int
    """Operands and results of the largest single operation, weights included: no runtime needs less without tiling."""


def activation_memory(record: ForwardRecord) -> Activations:
    """Compute the activation memory of a recorded forward."""
    eager = list(_bytes_alive(_eager_lifetimes(record), len(record.operations)))
    peak = max(eager, default=0)
    on_cpu = (alive + operation.workspace for alive, operation in zip(eager, record.operations, strict=True))
    modules = record.operations[eager.index(peak)].modules if eager else ()
    return Activations(
        peak,
        modules[-1] if modules else "",
        max(on_cpu, default=0),
        max(_bytes_alive(_last_use_lifetimes(record), len(record.operations)), default=0),
        max((_operation_bytes(record, number) for number in range(len(record.operations))), default=0),
    )


def resident_bytes(record: ForwardRecord) -> int:
    """Return the bytes of weights, buffers and inputs, which are in memory before the forward."""
    return sum(storage.bytes for storage in record.storages if storage.allocated_at == BEFORE_FORWARD)


def _operation_bytes(record: ForwardRecord, number: int) -> int:
    """Return the bytes of all storages that an operation reads or writes, each once."""
    operation = record.operations[number]
    return sum(record.storages[storage].bytes for storage in {*operation.reads, *operation.writes})


def _eager_lifetimes(record: ForwardRecord) -> Iterator[Lifetime]:
    end = len(record.operations)
    for storage in record.storages:
        if storage.allocated_at != BEFORE_FORWARD:
            yield storage.bytes, storage.allocated_at, (end if storage.freed_at is None else storage.freed_at) - 1


def _last_use_lifetimes(record: ForwardRecord) -> Iterator[Lifetime]:
    """Yield lifetimes that end with the last operation that reads or writes; outputs live to the end."""
    last_use = {number: index for index, op in enumerate(record.operations) for number in (*op.reads, *op.writes)}
    last_use |= dict.fromkeys(record.outputs or (), len(record.operations) - 1)
    for number, storage in enumerate(record.storages):
        if storage.allocated_at != BEFORE_FORWARD and number in last_use:
            yield storage.bytes, storage.allocated_at, last_use[number]


def _bytes_alive(lifetimes: Iterable[Lifetime], operations: int) -> Iterator[int]:
    """Yield the bytes alive during each operation."""
    change = [0] * (operations + 1)
    for size, first, last in lifetimes:
        change[first] += size
        change[max(first, last) + 1] -= size
    return accumulate(change[:operations])
