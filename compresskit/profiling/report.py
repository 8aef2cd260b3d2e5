"""What a profile found, as one object: figures as attributes, plain data by `to_dict`, a table when printed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from compresskit.profiling.checking.crosscheck import Verdict
from compresskit.profiling.counting.activations import Activations
from compresskit.profiling.counting.dead_code import DeadCode
from compresskit.profiling.counting.formulas import CONVENTION
from compresskit.profiling.counting.layers import Layer
from compresskit.profiling.counting.parameters import Parameters
from compresskit.profiling.measuring.latency import Latency
from compresskit.profiling.measuring.memory import MeasuredMemory
from compresskit.profiling.measuring.receptive import ReceptiveField

if TYPE_CHECKING:
    from rich.console import RenderableType


SCHEMA = 1
"""Version of the layout of `to_dict`."""


@dataclass(frozen=True, slots=True)
class OperationCount:
    """All calls of one operation."""

    calls: int
    macs: int
    elementwise: int
    bytes: int
    counted: bool


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """What one forward of a model costs."""

    model: str
    """Name of its class."""
    inputs: tuple[str, ...]
    """Shapes and types."""
    route: str
    """How it was seen: on the `meta` device, with `fake` tensors, or in a real run on the device of this name."""
    torch: str
    parameters: Parameters
    operations: Mapping[str, OperationCount]
    """By name, in the order of their first call."""
    layers: tuple[Layer, ...]
    """The model itself first."""
    pixels: int | None
    """Of the input or output picture, whichever is larger, times the batch; None without pictures."""
    given_bytes: int
    """Of weights, buffers and inputs."""
    activations: Activations
    dead: tuple[DeadCode, ...]
    """Modules that run and reach no output."""
    dead_macs: int
    crosscheck: tuple[Verdict, ...] = ()
    memory: MeasuredMemory | None = None
    latency: Latency | None = None
    receptive_field: ReceptiveField | None = None
    warnings: tuple[str, ...] = ()

    @property
    def params(self) -> int:
        """Parameters, tied ones once."""
        return self.parameters.total

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return sum(operation.macs for operation in self.operations.values())

    @property
    def elementwise(self) -> int:
        """FLOPs of what is no matrix product: activations, norms, pooling."""
        return sum(operation.elementwise for operation in self.operations.values())

    @property
    def flops(self) -> int:
        """Two per MAC, and the element-wise ones."""
        return 2 * self.macs + self.elementwise

    @property
    def bytes(self) -> int:
        """Read and written by all operations, each on its own: what no fusion could save is less."""
        return sum(operation.bytes for operation in self.operations.values())

    @property
    def intensity(self) -> float | None:
        """FLOPs per byte; None where no byte was moved."""
        return self.flops / self.bytes if self.bytes else None

    @property
    def macs_per_pixel(self) -> float | None:
        """MACs for each pixel of the larger picture."""
        return self.macs / self.pixels if self.pixels else None

    @property
    def uncounted(self) -> dict[str, int]:
        """Operations that nobody counted, with their calls: the figures leave them out."""
        return {name: operation.calls for name, operation in self.operations.items() if not operation.counted}

    @property
    def run_bytes(self) -> int:
        """Weights, inputs and activations of a real run on this machine's CPU."""
        return self.given_bytes + self.activations.cpu_peak

    @property
    def doubts(self) -> list[str]:
        """What keeps the figures from being sure: operations that nobody counted, unexplained differences."""
        doubts = [f"{name} is not counted" for name in self.uncounted]
        return doubts + [
            f"{one.backend} differs" for one in self.crosscheck if one.verdict == "differs" and not one.reason
        ]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data for JSON; counts are exact integers."""
        return {
            "schema": SCHEMA,
            "convention": CONVENTION,
            "torch": self.torch,
            "model": self.model,
            "inputs": list(self.inputs),
            "route": self.route,
            "totals": {
                "parameters": self.params,
                "macs": self.macs,
                "elementwise": self.elementwise,
                "flops": self.flops,
                "bytes": self.bytes,
                "intensity": self.intensity,
                "pixels": self.pixels,
                "macs_per_pixel": self.macs_per_pixel,
            },
            "parameters": asdict(self.parameters),
            "layers": [{**asdict(layer), "intensity": layer.intensity} for layer in self.layers],
            "operations": {name: asdict(operation) for name, operation in self.operations.items()},
            "uncounted": self.uncounted,
            "dead": {"modules": [asdict(part) for part in self.dead], "macs": self.dead_macs},
            "crosscheck": [asdict(verdict) for verdict in self.crosscheck],
            "memory": {
                "given": self.given_bytes,
                "predicted": asdict(self.activations),
                "measured": None if self.memory is None else asdict(self.memory),
            },
            "latency": None if self.latency is None else asdict(self.latency),
            "receptive_field": None if self.receptive_field is None else asdict(self.receptive_field),
            "warnings": list(self.warnings),
        }

    def __rich__(self) -> "RenderableType":
        from compresskit.profiling.table import profile_view

        return profile_view(self)

    def __str__(self) -> str:
        from compresskit.profiling.table import as_text

        return as_text(self)
