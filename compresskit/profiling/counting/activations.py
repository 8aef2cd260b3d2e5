"""Memory that a forward needs beside weights and inputs, from the lifetimes of its storages."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate

from compresskit.profiling.counting.operations import GIVEN, Record, Storage

Life = tuple[int, int, int]
"""Bytes, the first operation and the last one that a storage is alive for."""


@dataclass(frozen=True, slots=True)
class Activations:
    """Bytes of everything that the forward makes, its outputs included."""

    peak: int
    """Most at one time when run eagerly: the names in `forward` keep their tensors alive."""
    peak_at: str
    """Path of the module that runs then."""
    cpu_peak: int
    """Most at one time on this machine's CPU: `peak`, and what convolutions borrow while they run."""
    last_use_peak: int
    """Most at one time for a runtime that frees each tensor after its last use."""
    largest_operation: int
    """Operands and results of the largest single operation, weights included: no runtime needs less without tiling."""


def activations(record: Record) -> Activations:
    """The activation memory of a recorded forward."""
    eager = list(_alive(_lives(record), len(record.operations)))
    peak = max(eager, default=0)
    on_cpu = (alive + operation.workspace for alive, operation in zip(eager, record.operations, strict=True))
    running = record.operations[eager.index(peak)].modules if eager else ()
    return Activations(
        peak,
        running[-1] if running else "",
        max(on_cpu, default=0),
        max(_alive(_used_lives(record), len(record.operations)), default=0),
        max((operation_bytes(record, number) for number in range(len(record.operations))), default=0),
    )


def given_bytes(record: Record) -> int:
    """Of weights, buffers and inputs."""
    return sum(storage.bytes for storage in record.storages if storage.born == GIVEN)


def operation_bytes(record: Record, number: int) -> int:
    """Of all storages that an operation reads or writes, each once."""
    operation = record.operations[number]
    return sum(record.storages[storage].bytes for storage in {*operation.reads, *operation.writes})


def _lives(record: Record) -> Iterator[Life]:
    end = len(record.operations)
    for storage in _made(record.storages):
        yield storage.bytes, storage.born, (end if storage.died is None else storage.died) - 1


def _used_lives(record: Record) -> Iterator[Life]:
    """Lives that end with the last operation that reads or writes; what is returned lives to the end."""
    last = {number: index for index, op in enumerate(record.operations) for number in (*op.reads, *op.writes)}
    last |= dict.fromkeys(record.outputs or (), len(record.operations) - 1)
    for number, storage in enumerate(record.storages):
        if storage.born != GIVEN and number in last:
            yield storage.bytes, storage.born, last[number]


def _made(storages: Iterable[Storage]) -> Iterator[Storage]:
    return (storage for storage in storages if storage.born != GIVEN)


def _alive(lives: Iterable[Life], operations: int) -> Iterator[int]:
    """Bytes alive during each operation."""
    change = [0] * (operations + 1)
    for size, first, last in lives:
        change[first] += size
        change[max(first, last) + 1] -= size
    return accumulate(change[:operations])
