"""Text of a report: the table of a model's modules, and a line for each part of a profile."""

from collections.abc import Iterator, Mapping, Sequence

from compresskit.errors import DataError, close_names
from compresskit.profiling.counting.activations import Activations
from compresskit.profiling.counting.dead_code import DeadCode
from compresskit.profiling.counting.layers import Layer
from compresskit.profiling.counting.parameters import Parameters
from compresskit.profiling.measuring.latency import Latency
from compresskit.profiling.measuring.memory import MeasuredMemory
from compresskit.tables import Table
from compresskit.units import bytes_text, count_text, shape_text, share_text

ORDERS = ("model", "macs", "parameters", "output_bytes", "bytes")
"""Orders of the rows of a table of modules."""

DEPTH = 1
"""Levels of modules below the model itself that a table shows."""


def layer_table(
    layers: Sequence[Layer],
    *,
    parameters: int,
    macs: int,
    depth: int = DEPTH,
    sort: str = "model",
    top: int | None = None,
    title: str = "",
    notes: Sequence[str] = (),
) -> Table:
    """Make the table of a model's modules, a row for each.

    Args:
        layers: The model itself first.
        parameters: Parameters of the model, for the shares.
        macs: MACs of the model, for the shares.
        depth: Levels of modules below the model itself.
        sort: `model` for the model's order; `macs`, `parameters`, `output_bytes` or `bytes` for the largest first.
        top: Number of rows below the model itself; None for all.
        title: Line above the table.
        notes: Lines under the table.

    Raises:
        DataError: There is no such order.
    """
    if sort not in ORDERS:
        raise DataError(f"--sort: no order {sort!r}{close_names(sort, ORDERS)}")
    whole, *parts = [layer for layer in layers if layer.depth <= depth]
    if sort != "model":
        parts = sorted(parts, key=lambda layer: -getattr(layer, sort))
    selected = [whole, *parts[:top]]
    nested = sort == "model" and top is None
    header = ("module", "type", "output", "parameters", "%", "MACs", "%", "output bytes", "FLOP/B", "")
    rows = tuple(
        (
            _layer_name(layer, nested=nested),
            layer.type,
            "" if layer.output_shape is None else shape_text(layer.output_shape),
            f"{layer.parameters:,}",
            share_text(layer.parameters, parameters).removesuffix(" %"),
            count_text(layer.macs),
            share_text(layer.macs, macs).removesuffix(" %"),
            bytes_text(layer.output_bytes),
            "" if layer.intensity is None else f"{layer.intensity:.1f}",
            ", ".join(_remarks(layer)),
        )
        for layer in selected
    )
    dim = frozenset(number for number, layer in enumerate(selected) if layer.dead or not layer.calls)
    return Table(header, rows, title, notes, dim=dim, left=(0, 1, len(header) - 1))


def titled_lines(*lines: tuple[str, str]) -> list[str]:
    """Return lines `title: text`, without those that have no text."""
    return [f"{title}: {text}" for title, text in lines if text]


def parameters_text(parameters: Parameters) -> str:
    """Return the numbers and types of parameters and buffers in a line."""
    types = ", ".join(f"{bytes_text(size)} {dtype}" for dtype, size in parameters.dtypes.items())
    buffers = f"{parameters.buffers:,} more in buffers ({bytes_text(parameters.buffer_bytes)})"
    parts = (
        f"{parameters.total:,}",
        f"{parameters.frozen:,} of them frozen" if parameters.frozen else "",
        types,
        f"{parameters.zeros:,} are zero" if parameters.zeros else "",
        f"tied: {'; '.join(' = '.join(names) for names in parameters.tied)}" if parameters.tied else "",
        buffers if parameters.buffers else "",
    )
    return ", ".join(part for part in parts if part)


def memory_text(resident: int, activations: Activations, measured: MeasuredMemory | None) -> str:
    """Return the memory of a forward in a line: weights and inputs, activations, and the measured peak."""
    peak_at = f" in {activations.peak_at}" if activations.peak_at else ""
    parts = [
        f"{bytes_text(resident)} weights and inputs",
        f"activations at most {bytes_text(activations.peak)}{peak_at}, {bytes_text(activations.cpu_peak)} on this CPU",
        f"{bytes_text(activations.last_use_peak)} if each is freed at its last use",
        f"{bytes_text(activations.largest_operation)} for the largest operation",
    ]
    if measured is not None:
        parts.append(f"measured {bytes_text(measured.peak)} by {measured.method}")
    return "; ".join(parts)


def latency_text(latency: Latency) -> str:
    """Return the median and the spread of a latency in a line."""
    return (
        f"{latency.median:.4g} ms median of {latency.calls} calls on {latency.device} "
        f"(10 % below {latency.p10:.4g}, 10 % above {latency.p90:.4g}, the first call {latency.first:.4g})"
    )


def uncounted_text(uncounted: Mapping[str, int]) -> str:
    """Return the operations without a count in a line, with their calls."""
    return ", ".join(f"{name} ({calls} {'call' if calls == 1 else 'calls'})" for name, calls in uncounted.items())


def dead_code_text(dead: Sequence[DeadCode], dead_macs: int, macs: int) -> str:
    """Return the modules that no output depends on in a line, with their share of all MACs."""
    if not dead_macs:
        return ""
    names = ", ".join(part.module for part in dead if part.macs) or "some operations"
    share = share_text(dead_macs, macs) if dead_macs >= macs / 1000 else "< 0.1 %"
    return f"{names}: computed, and no output depends on it ({dead_macs:,} MACs, {share})"


def _layer_name(layer: Layer, *, nested: bool) -> str:
    """Return the path of a module, or its last part indented by depth; the class for the model itself."""
    if not layer.path:
        return layer.type
    return "  " * layer.depth + layer.path.rpartition(".")[2] if nested else layer.path


def _remarks(layer: Layer) -> Iterator[str]:
    if not layer.calls:
        yield "not called as a module"
    if layer.calls > 1:
        yield f"x{layer.calls}"
    if layer.dead:
        yield "reaches no output"
    if layer.uncounted:
        yield f"uncounted: {', '.join(layer.uncounted)}"
