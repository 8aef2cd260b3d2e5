"""Figures of each module: its parameters, its work and its output."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from compresskit.profiling.counting.dead_code import DeadCode
from compresskit.profiling.counting.operations import ForwardRecord, ModuleCalls, Operation
from compresskit.profiling.counting.parameters import total_parameters


@dataclass(frozen=True, slots=True)
class Layer:
    """One module with all inside it. A module with several paths is listed under its first path."""

    path: str
    """Path such as `encoder.0.conv`; "" is the model itself."""
    type: str
    """Name of its class."""
    depth: int
    """Levels below the model itself, which has 0."""
    calls: int
    output_shape: tuple[int, ...] | None
    """Shape of the first tensor of the first call; None if it was not called."""
    output_bytes: int
    """Bytes of all tensors that the first call returned."""
    parameters: int
    macs: int
    own_macs: int
    """MACs outside of the modules inside it; those of all modules add up to the model's."""
    elementwise: int
    bytes: int
    """Bytes that its operations read and write."""
    dead: bool
    """True if it runs and no output depends on it."""
    uncounted: tuple[str, ...]
    """Operations directly in this module that are in no formula and no table."""

    @property
    def intensity(self) -> float | None:
        """FLOPs per byte."""
        return (2 * self.macs + self.elementwise) / self.bytes if self.bytes else None


def count_layers(model: nn.Module, record: ForwardRecord, dead: Iterable[DeadCode]) -> tuple[Layer, ...]:
    """Return the figures of each module, in the order in which the model names them."""
    sums: dict[str, Counter[str]] = {}
    uncounted: dict[str, set[str]] = {}
    for operation in record.operations:
        _add(sums, operation)
        if not operation.counted and operation.modules:
            uncounted.setdefault(operation.modules[-1], set()).add(operation.name)
    dead_paths = tuple(part.module for part in dead)
    return tuple(
        _layer(
            path,
            module,
            record.calls.get(path, ModuleCalls()),
            sums.get(path, Counter()),
            dead=any(path == part or path.startswith(f"{part}.") for part in dead_paths),
            uncounted=tuple(sorted(uncounted.get(path, ()))),
        )
        for path, module in model.named_modules()
    )


def _add(sums: dict[str, Counter[str]], operation: Operation) -> None:
    figures = {"macs": operation.macs, "elementwise": operation.elementwise, "bytes": operation.bytes}
    for path in set(operation.modules):  # a module may be inside itself
        sums.setdefault(path, Counter()).update(figures)
    if operation.modules:
        sums[operation.modules[-1]]["own"] += operation.macs


def _layer(
    path: str, module: nn.Module, calls: ModuleCalls, sums: Counter[str], *, dead: bool, uncounted: tuple[str, ...]
) -> Layer:
    return Layer(
        path,
        type(module).__name__,
        path.count(".") + 1 if path else 0,
        calls.count,
        calls.output_shape,
        calls.output_bytes,
        total_parameters(module),
        sums["macs"],
        sums["own"],
        sums["elementwise"],
        sums["bytes"],
        dead,
        uncounted,
    )
