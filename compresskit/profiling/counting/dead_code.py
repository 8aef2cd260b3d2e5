"""Modules that run, and whose result reaches no output: work that a compressed model can leave out."""

from dataclasses import dataclass

from compresskit.profiling.counting.operations import GIVEN, Operation, Record


@dataclass(frozen=True, slots=True)
class DeadCode:
    """A module whose every operation is in vain."""

    module: str
    macs: int


def dead_code(record: Record) -> tuple[DeadCode, ...]:
    """The outermost modules that only compute what is thrown away, the one with the most MACs first.

    An operation is alive if its result is returned, is kept in a tensor that existed before, is looked at by Python, or
    is read by one that is alive. Storages are followed and not tensors, so an operation may pass for alive that is not.
    """
    if record.outputs is None:
        return ()
    alive = _alive(record)
    kept = {path for index in alive for path in record.operations[index].modules}
    macs: dict[str, int] = {}
    for operation in record.operations:
        outermost = next((path for path in operation.modules if path not in kept), None)
        if outermost is not None:
            macs[outermost] = macs.get(outermost, 0) + operation.macs
    return tuple(sorted((DeadCode(*item) for item in macs.items()), key=lambda dead: -dead.macs))


def dead_macs(record: Record) -> int:
    """MACs of all operations in vain, those among living ones in a module included."""
    if record.outputs is None:
        return 0
    alive = _alive(record)
    return sum(operation.macs for index, operation in enumerate(record.operations) if index not in alive)


def _alive(record: Record) -> set[int]:
    needed, alive = set(record.outputs or ()), set()
    for index in range(len(record.operations) - 1, -1, -1):
        operation = record.operations[index]
        if not operation.writes or _kept(record, operation) or not needed.isdisjoint(operation.writes):
            alive.add(index)
            needed.update(operation.reads)
    return alive


def _kept(record: Record, operation: Operation) -> bool:
    """Whether something is written into a tensor that was there before the forward."""
    return operation.changes and any(record.storages[number].born == GIVEN for number in operation.writes)
