"""The result of `profile`: figures as attributes, plain data by `to_dict`, a table when printed."""

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
from compresskit.profiling.measuring.receptive_field import ReceptiveField
from compresskit.profiling.render import (
    DEPTH,
    dead_code_text,
    latency_text,
    layer_table,
    memory_text,
    parameters_text,
    titled_lines,
    uncounted_text,
)
from compresskit.tables import Table
from compresskit.units import bytes_text, count_text

if TYPE_CHECKING:
    from rich.console import RenderableType

SCHEMA = 1
"""Version of the layout of `to_dict`."""

_TRACING_MODES = {
    "meta": "counted on the meta device, without running the model",
    "fake": "counted with fake tensors, without running the model: it names a device",
}


@dataclass(frozen=True, slots=True)
class OperationCount:
    """Sums over the calls of one operation."""

    calls: int
    macs: int
    elementwise: int
    bytes: int
    counted: bool


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """The cost of one forward of a model."""

    model: str
    """Name of its class."""
    inputs: tuple[str, ...]
    """Shapes and types."""
    route: str
    """Tracing mode: `meta` for the meta device, `fake` for fake tensors, or the device of a real run."""
    torch: str
    parameters: Parameters
    operations: Mapping[str, OperationCount]
    """Operations by name, in the order of their first call."""
    layers: tuple[Layer, ...]
    """Modules, the model itself first."""
    pixels: int | None
    """Pixels of the input or output picture, whichever is larger, times the batch; None without pictures."""
    resident_bytes: int
    """Bytes of weights, buffers and inputs."""
    activations: Activations
    dead: tuple[DeadCode, ...]
    """Modules that run although no output depends on them."""
    dead_macs: int
    crosscheck: tuple[Verdict, ...] = ()
    memory: MeasuredMemory | None = None
    latency: Latency | None = None
    receptive_field: ReceptiveField | None = None
    warnings: tuple[str, ...] = ()

    @property
    def params(self) -> int:
        """Number of parameters, tied ones once."""
        return self.parameters.total

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return sum(operation.macs for operation in self.operations.values())

    @property
    def elementwise(self) -> int:
        """FLOPs outside of matrix products: activations, norms, pooling."""
        return sum(operation.elementwise for operation in self.operations.values())

    @property
    def flops(self) -> int:
        """Two per MAC, and the element-wise ones."""
        return 2 * self.macs + self.elementwise

    @property
    def bytes(self) -> int:
        """Bytes read and written by all operations, one by one; a runtime that fuses operations moves fewer."""
        return sum(operation.bytes for operation in self.operations.values())

    @property
    def intensity(self) -> float | None:
        """FLOPs per byte; None if no byte is moved."""
        return self.flops / self.bytes if self.bytes else None

    @property
    def macs_per_pixel(self) -> float | None:
        """MACs per pixel of the larger picture."""
        return self.macs / self.pixels if self.pixels else None

    @property
    def uncounted(self) -> dict[str, int]:
        """Calls of operations that are in no formula and no table: the figures leave them out."""
        return {name: operation.calls for name, operation in self.operations.items() if not operation.counted}

    @property
    def run_bytes(self) -> int:
        """Bytes of a real run on this machine's CPU: weights, inputs and activations."""
        return self.resident_bytes + self.activations.cpu_peak

    @property
    def doubts(self) -> list[str]:
        """Reasons to doubt the figures: operations that are not counted, unexplained differences."""
        uncounted = [f"{name} is not counted" for name in self.uncounted]
        different = [one.backend for one in self.crosscheck if one.verdict == "differs" and not one.reason]
        return uncounted + [f"{backend} differs" for backend in different]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data for JSON; counts are exact integers."""
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
                "given": self.resident_bytes,
                "predicted": asdict(self.activations),
                "measured": None if self.memory is None else asdict(self.memory),
            },
            "latency": None if self.latency is None else asdict(self.latency),
            "receptive_field": None if self.receptive_field is None else asdict(self.receptive_field),
            "warnings": list(self.warnings),
        }

    def table(self, *, depth: int = DEPTH, sort: str = "model", top: int | None = None) -> Table:
        """Return the table of modules, and notes with all other figures.

        Args:
            depth: Levels of modules below the model itself.
            sort: `model` for the model's order; `macs`, `parameters`, `output_bytes` or `bytes` for the largest first.
            top: Number of rows below the model itself; None for all.

        Raises:
            DataError: There is no such order.
        """
        return layer_table(
            self.layers,
            parameters=self.params,
            macs=self.macs,
            depth=depth,
            sort=sort,
            top=top,
            title=f"{self.model}, {', '.join(self.inputs)}",
            notes=self._notes(),
        )

    def remarks(self) -> dict[str, str]:
        """Return what a reader of the figures has to know, by title; a text is empty if there is nothing to say."""
        warnings = (*self.warnings, *(() if self.latency is None else self.latency.warnings))
        return {
            "uncounted": uncounted_text(self.uncounted),
            "dead code": dead_code_text(self.dead, self.dead_macs, self.macs),
            "cross-check": "; ".join(map(str, self.crosscheck)),
            "warning": "; ".join(warnings),
        }

    def __rich__(self) -> "RenderableType":
        return self.table()

    def __str__(self) -> str:
        return str(self.table())

    def _notes(self) -> list[str]:
        per_pixel = "" if self.macs_per_pixel is None else f", {self.macs_per_pixel:,.0f} a pixel"
        moved = f", {bytes_text(self.bytes)} moved un-fused" if self.bytes else ""
        intensity = "" if self.intensity is None else f", {self.intensity:.1f} FLOPs a byte"
        flops = f"{count_text(self.flops)}, of them {count_text(self.elementwise)} element-wise{moved}{intensity}"
        remarks = self.remarks()
        remarks["uncounted"] = remarks["uncounted"] or "nothing"
        return [
            *titled_lines(
                ("parameters", parameters_text(self.parameters)),
                ("MACs", f"{self.macs:,}{per_pixel}"),
                ("FLOPs", flops),
                ("memory", memory_text(self.resident_bytes, self.activations, self.memory)),
                ("receptive field", "" if self.receptive_field is None else str(self.receptive_field)),
                ("latency", "" if self.latency is None else latency_text(self.latency)),
                ("machine", "" if self.latency is None else str(self.latency.machine)),
                *remarks.items(),
            ),
            _TRACING_MODES.get(self.route, f"counted in a real run on {self.route}: the model's Python reads values"),
            CONVENTION,
        ]
