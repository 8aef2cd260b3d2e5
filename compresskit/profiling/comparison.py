"""The result of `compare`: profiles of several models, each against the first."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from compresskit.profiling.counting.formulas import CONVENTION
from compresskit.profiling.measuring.latency import Ratio
from compresskit.profiling.render import titled_lines
from compresskit.profiling.report import SCHEMA, ModelProfile
from compresskit.tables import Table
from compresskit.units import bytes_text, count_text

if TYPE_CHECKING:
    from rich.console import RenderableType

DIVERGENCE = 2.0
"""Factor between the ratios of parameters and of MACs from which a comparison warns."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Profiles of several models on the same inputs; the first is the reference. It prints as a table."""

    profiles: Mapping[str, ModelProfile]
    faster: Mapping[str, Ratio] = field(default_factory=dict)
    """Speed of each model but the first relative to the first, from calls in turn; empty without latencies."""

    @property
    def reference(self) -> ModelProfile:
        """The first model's profile."""
        return next(iter(self.profiles.values()))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about models whose parameters and MACs shrink by very different factors."""
        return tuple(
            f"{name} has {fewer:.3g} times fewer parameters than the first, and {less:.3g} times fewer MACs: "
            "a figure for one says little about the other"
            for name, fewer, less in self._shrinkage()
            if max(fewer, less) >= DIVERGENCE * min(fewer, less)
        )

    @property
    def doubts(self) -> list[str]:
        """Reasons to doubt the figures, model by model."""
        return [f"{name}: {doubt}" for name, one in self.profiles.items() for doubt in one.doubts]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data for JSON."""
        return {
            "schema": SCHEMA,
            "convention": CONVENTION,
            "models": {name: one.to_dict() for name, one in self.profiles.items()},
            "ratios": {name: {"parameters": fewer, "macs": less} for name, fewer, less in self._shrinkage()},
            "faster": {name: asdict(ratio) for name, ratio in self.faster.items()},
            "warnings": list(self.warnings),
        }

    def table(self) -> Table:
        """Return a table with a row for each figure, a column for each model, and one for each ratio to the first."""
        first, *others = self.profiles
        header = ("", first, *(cell for name in others for cell in (name, "ratio")))
        rows = (*self._counted_rows(), *self._measured_rows())
        return Table(header, rows, ", ".join(self.reference.inputs), list(self._notes()))

    def __rich__(self) -> "RenderableType":
        return self.table()

    def __str__(self) -> str:
        return str(self.table())

    def _shrinkage(self) -> list[tuple[str, float, float]]:
        """Return for each model but the first how many times fewer parameters and MACs it has."""
        first, *others = self.profiles.items()
        return [
            (name, first[1].params / one.params, first[1].macs / one.macs)
            for name, one in others
            if one.params and one.macs and first[1].params and first[1].macs
        ]

    def _counted_rows(self) -> Iterator[tuple[str, ...]]:
        first, *others = self.profiles.values()
        for title, figure, text, smaller in _FIGURES:
            value = figure(first)
            if value is None:
                continue
            cells = [title, text(value)]
            for one in others:
                other = figure(one)
                cells += ["", ""] if other is None else [text(other), _ratio_text(value, other, smaller)]
            yield tuple(cells)

    def _measured_rows(self) -> Iterator[tuple[str, ...]]:
        """Yield the rows whose ratio is not that of two figures.

        The ratio of latencies is that of calls in turn, not that of the medians. Receptive fields have none.
        """
        latencies = [one.latency for one in self.profiles.values() if one.latency is not None]
        if len(latencies) == len(self.profiles):
            cells = ["latency, median"]
            for name, latency in zip(self.profiles, latencies, strict=True):
                cells.append(f"{latency.median:.4g} ms")
                if name in self.faster:
                    ratio = self.faster[name]
                    cells.append(f"{ratio.times:.3g}x faster ({ratio.low:.3g} to {ratio.high:.3g})")
            yield tuple(cells)
        fields = ["" if one.receptive_field is None else str(one.receptive_field) for one in self.profiles.values()]
        if any(fields):
            yield ("receptive field", fields[0], *(cell for text in fields[1:] for cell in (text, "")))

    def _notes(self) -> Iterator[str]:
        for name, one in self.profiles.items():
            yield from titled_lines(*((f"{name}, {title}", text) for title, text in one.remarks().items()))
        yield from (f"warning: {text}" for text in self.warnings)
        latency = self.reference.latency
        if latency is not None:
            yield f"machine: {latency.machine}; {latency.calls} calls of each in turn"
        yield CONVENTION


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
"""Rows of a comparison: title, figure, its text, and the word for a smaller one."""


def _ratio_text(first: float, other: float, smaller: str) -> str:
    """Write the ratio of a figure to the first model's: `2.26 %, 44.3x fewer`."""
    if first == other:
        return "equal"
    if not first or not other:
        return ""
    if other < first:
        return f"{100 * other / first:.3g} %, {first / other:.3g}x {smaller}"
    return f"{other / first:.3g}x more"
