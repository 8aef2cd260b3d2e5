"""A record by module: what each part of a model holds, computes and puts out."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from compresskit.profiling.counting.dead_code import DeadCode
from compresskit.profiling.counting.operations import Calls, Operation, Record
from compresskit.profiling.counting.parameters import count_parameters


@dataclass(frozen=True, slots=True)
class Layer:
    """One module with all inside it; a module that has several paths stands under the first."""

    path: str
    """`encoder.0.conv`; "" is the model itself."""
    type: str
    """Name of its class."""
    depth: int
    """0 for the model itself."""
    calls: int
    output_shape: tuple[int, ...] | None
    """Of the first call's first tensor; None where it was not called."""
    output_bytes: int
    """Of all tensors that the first call returned."""
    parameters: int
    macs: int
    own_macs: int
    """MACs outside of the modules inside it: these add up to the model's."""
    elementwise: int
    bytes: int
    """Read and written by its operations."""
    dead: bool
    """Whether it runs, and nothing that it computes reaches an output."""
    uncounted: tuple[str, ...]
    """Operations that nobody counted, directly in this module."""

    @property
    def intensity(self) -> float | None:
        """FLOPs per byte."""
        return (2 * self.macs + self.elementwise) / self.bytes if self.bytes else None


def layers(model: nn.Module, record: Record, dead: Iterable[DeadCode]) -> tuple[Layer, ...]:
    """A row for each module, in the order in which the model names them."""
    sums: dict[str, Counter[str]] = {}
    uncounted: dict[str, set[str]] = {}
    for operation in record.operations:
        _add(sums, operation)
        if not operation.counted and operation.modules:
            uncounted.setdefault(operation.modules[-1], set()).add(operation.name)
    in_vain = tuple(part.module for part in dead)
    return tuple(
        _layer(
            path,
            module,
            record.calls.get(path, Calls()),
            sums.get(path, Counter()),
            dead=any(path == part or path.startswith(f"{part}.") for part in in_vain),
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
    path: str, module: nn.Module, calls: Calls, sums: Counter[str], *, dead: bool, uncounted: tuple[str, ...]
) -> Layer:
    return Layer(
        path,
        type(module).__name__,
        path.count(".") + 1 if path else 0,
        calls.count,
        calls.output_shape,
        calls.output_bytes,
        count_parameters(module),
        sums["macs"],
        sums["own"],
        sums["elementwise"],
        sums["bytes"],
        dead,
        uncounted,
    )
