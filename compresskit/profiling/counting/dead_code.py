"""Modules that run although no output depends on them: work that a compressed model can leave out."""

from dataclasses import dataclass

from compresskit.profiling.counting.operations import BEFORE_FORWARD, ForwardRecord, Operation


@dataclass(frozen=True, slots=True)
class DeadCode:
    """A module none of whose operations reaches an output."""

    module: str
    macs: int


def find_dead_code(record: ForwardRecord) -> tuple[DeadCode, ...]:
    """Return the outermost modules that no output depends on, the one with the most MACs first.

    An operation is alive if its result is returned, is written into a tensor that existed before, is read by Python, or
    is read by an operation that is alive. Storages are followed, not tensors, so dead operations may count as alive.
    """
    if record.outputs is None:
        return ()
    alive = _alive_operations(record)
    alive_modules = {path for index in alive for path in record.operations[index].modules}
    macs: dict[str, int] = {}
    for operation in record.operations:
        outermost = next((path for path in operation.modules if path not in alive_modules), None)
        if outermost is not None:
            macs[outermost] = macs.get(outermost, 0) + operation.macs
    return tuple(sorted((DeadCode(*item) for item in macs.items()), key=lambda dead: -dead.macs))


def dead_macs(record: ForwardRecord) -> int:
    """Return the MACs of all dead operations, those inside modules that are alive included."""
    if record.outputs is None:
        return 0
    alive = _alive_operations(record)
    return sum(operation.macs for index, operation in enumerate(record.operations) if index not in alive)


def _alive_operations(record: ForwardRecord) -> set[int]:
    needed, alive = set(record.outputs or ()), set()
    for index in range(len(record.operations) - 1, -1, -1):
        operation = record.operations[index]
        has_effect = not operation.writes or _changes_old_storage(record, operation)
        if has_effect or not needed.isdisjoint(operation.writes):
            alive.add(index)
            needed.update(operation.reads)
    return alive


def _changes_old_storage(record: ForwardRecord, operation: Operation) -> bool:
    """Return whether an operation writes into a tensor that existed before the forward."""
    return operation.mutates and any(
        record.storages[number].allocated_at == BEFORE_FORWARD for number in operation.writes
    )
