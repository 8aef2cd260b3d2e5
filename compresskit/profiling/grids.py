"""Profiles and comparisons as rows of text, for a terminal and for Markdown."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from compresskit.errors import DataError, close_names
from compresskit.profiling.compare import Comparison
from compresskit.profiling.counting.layers import Layer
from compresskit.profiling.counting.model_call import shape_text
from compresskit.profiling.report import ModelProfile
from compresskit.profiling.units import bytes_text, count_text, share_text

ORDERS = ("model", "macs", "parameters", "output_bytes", "bytes")
DEPTH = 1
"""Levels of modules below the model itself that a table shows."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A table as text."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    dim: frozenset[int] = frozenset()
    """Numbers of rows to show less brightly."""


def layer_grid(profile: ModelProfile, *, depth: int = DEPTH, sort: str = "model", top: int | None = None) -> Grid:
    """A row for each module.

    Args:
        profile: Of one model.
        depth: Levels below the model itself.
        sort: `model` keeps its order; else the largest first, by `macs`, `parameters`, `output_bytes` or `bytes`.
        top: Only so many rows besides the model itself.

    Raises:
        DataError: There is no such order.
    """
    if sort not in ORDERS:
        raise DataError(f"--sort: no order {sort!r}{close_names(sort, ORDERS)}")
    whole, *parts = [layer for layer in profile.layers if layer.depth <= depth]
    if sort != "model":
        parts = sorted(parts, key=lambda layer: -getattr(layer, sort))
    shown = [whole, *parts[:top]]
    header = ("module", "type", "output", "parameters", "%", "MACs", "%", "output bytes", "FLOP/B", "")
    rows = tuple(_layer_row(layer, profile, nested=sort == "model" and top is None) for layer in shown)
    return Grid(header, rows, frozenset(i for i, layer in enumerate(shown) if layer.dead or not layer.calls))


def comparison_grid(comparison: Comparison) -> Grid:
    """A row for each figure; a column for each model, and one for the ratio of each but the first."""
    first, *others = comparison.profiles.items()
    rows = []
    for title, figure, text, smaller in _FIGURES:
        value = figure(first[1])
        if value is None:
            continue
        cells = [title, text(value)]
        for _, one in others:
            other = figure(one)
            cells += ["", ""] if other is None else [text(other), _ratio(value, other, smaller)]
        rows.append(tuple(cells))
    rows += list(_measured_rows(comparison))
    header = ["", first[0]]
    for name, _ in others:
        header += [name, "ratio"]
    return Grid(tuple(header), tuple(rows))


def _layer_row(layer: Layer, profile: ModelProfile, *, nested: bool) -> tuple[str, ...]:
    name = layer.path.rpartition(".")[2] if nested else layer.path
    return (
        ("  " * layer.depth + name) if nested and layer.path else layer.path or profile.model,
        layer.type,
        "" if layer.output_shape is None else shape_text(layer.output_shape),
        f"{layer.parameters:,}",
        share_text(layer.parameters, profile.params).removesuffix(" %"),
        count_text(layer.macs),
        share_text(layer.macs, profile.macs).removesuffix(" %"),
        bytes_text(layer.output_bytes),
        "" if layer.intensity is None else f"{layer.intensity:.1f}",
        ", ".join(_remarks(layer)),
    )


def _remarks(layer: Layer) -> Iterator[str]:
    if not layer.calls:
        yield "not called as a module"
    if layer.calls > 1:
        yield f"x{layer.calls}"
    if layer.dead:
        yield "reaches no output"
    if layer.uncounted:
        yield f"uncounted: {', '.join(layer.uncounted)}"


_FIGURES: tuple[tuple[str, Callable[[ModelProfile], float | None], Callable[[float], str], str], ...] = (
    ("parameters", lambda one: one.params, lambda count: f"{count:,}", "fewer"),
    ("their bytes", lambda one: one.parameters.bytes, bytes_text, "fewer"),
    ("MACs", lambda one: one.macs, lambda count: f"{count:,}", "fewer"),
    ("MACs per pixel", lambda one: one.macs_per_pixel, lambda count: f"{count:,.0f}", "fewer"),
    ("element-wise FLOPs", lambda one: one.elementwise, count_text, "fewer"),
    ("bytes moved, un-fused", lambda one: one.bytes, bytes_text, "fewer"),
    ("FLOPs per byte", lambda one: one.intensity, lambda value: f"{value:.1f}", "less"),
    ("activations at most", lambda one: one.activations.peak, bytes_text, "less"),
    ("the same on this CPU", lambda one: one.activations.cpu_peak, bytes_text, "less"),
    ("freed at last use", lambda one: one.activations.last_use_peak, bytes_text, "less"),
    ("measured", lambda one: None if one.memory is None else one.memory.peak, bytes_text, "less"),
)
"""Rows of a comparison: title, figure, how it is written, and the word for a smaller one."""


def _measured_rows(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    """Latency, whose ratio is not that of the medians but of calls in turn; and receptive fields, which have none."""
    profiles = list(comparison.profiles.items())
    if all(one.latency is not None for _, one in profiles):
        cells = ["latency, median"]
        for name, one in profiles:
            cells.append(f"{one.latency.median:.4g} ms" if one.latency is not None else "")
            if name in comparison.faster:
                ratio = comparison.faster[name]
                cells.append(f"{ratio.times:.3g}x faster ({ratio.low:.3g} to {ratio.high:.3g})")
        yield tuple(cells)
    if any(one.receptive_field is not None for _, one in profiles):
        cells = ["receptive field"]
        for number, (_, one) in enumerate(profiles):
            cells += ["" if one.receptive_field is None else str(one.receptive_field), *([""] if number else [])]
        yield tuple(cells)


def _ratio(first: float, other: float, smaller: str) -> str:
    """`2.26 %, 44.3x fewer`."""
    if first == other:
        return "equal"
    if not first or not other:
        return ""
    if other < first:
        return f"{100 * other / first:.3g} %, {first / other:.3g}x {smaller}"
    return f"{other / first:.3g}x more"
