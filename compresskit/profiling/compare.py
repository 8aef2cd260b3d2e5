"""`compare`: models on the same inputs, side by side, each against the first."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from torch import nn

from compresskit.errors import CompressKitError, DataError
from compresskit.profiling.counting.formulas import CONVENTION
from compresskit.profiling.counting.model_call import Call
from compresskit.profiling.counting.tracing_modes import real_device
from compresskit.profiling.measuring.latency import Ratio
from compresskit.profiling.measuring.latency import latency as timed
from compresskit.profiling.profiler import profile
from compresskit.profiling.report import SCHEMA, ModelProfile

if TYPE_CHECKING:
    from rich.console import RenderableType

DIVERGENCE = 2.0
"""From this factor between the ratios of parameters and of MACs on, the comparison says so."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Profiles of several models on the same inputs; the first is the reference. It prints as a table."""

    profiles: Mapping[str, ModelProfile]
    faster: Mapping[str, Ratio] = field(default_factory=dict)
    """How many times faster than the first, by calls in turn; empty without latencies."""

    @property
    def reference(self) -> ModelProfile:
        """The first model's."""
        return next(iter(self.profiles.values()))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the table alone would mislead about."""
        return tuple(
            f"{name} has {fewer:.3g} times fewer parameters than the first, and {less:.3g} times fewer MACs: "
            "a figure for one says little about the other"
            for name, fewer, less in self._shrinkage()
            if max(fewer, less) >= DIVERGENCE * min(fewer, less)
        )

    @property
    def doubts(self) -> list[str]:
        """What keeps the figures from being sure, model by model."""
        return [f"{name}: {doubt}" for name, one in self.profiles.items() for doubt in one.doubts]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data for JSON."""
        return {
            "schema": SCHEMA,
            "convention": CONVENTION,
            "models": {name: one.to_dict() for name, one in self.profiles.items()},
            "ratios": {name: {"parameters": fewer, "macs": less} for name, fewer, less in self._shrinkage()},
            "faster": {name: asdict(ratio) for name, ratio in self.faster.items()},
            "warnings": list(self.warnings),
        }

    def _shrinkage(self) -> list[tuple[str, float, float]]:
        """For each model but the first, how many times fewer parameters and MACs it has."""
        first, *others = self.profiles.items()
        return [
            (name, first[1].params / one.params, first[1].macs / one.macs)
            for name, one in others
            if one.params and one.macs and first[1].params and first[1].macs
        ]

    def __rich__(self) -> "RenderableType":
        from compresskit.profiling.table import comparison_view

        return comparison_view(self)

    def __str__(self) -> str:
        from compresskit.profiling.table import as_text

        return as_text(self)


def compare(
    models: Mapping[str, nn.Module],
    inputs: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    device: str = "auto",
    latency: bool = False,
    max_seconds: float = 30.0,
    **options: Any,
) -> Comparison:
    """Profile several models on the same inputs.

    Args:
        models: By name; the others are compared to the first.
        inputs: As for `profile`, the same for all.
        kwargs: Their keyword inputs.
        device: Where real runs happen.
        latency: Time real copies, call by call in turn.
        max_seconds: Limit of the timed calls of all models together.
        options: The other options of `profile`.

    Returns:
        The profiles, and the ratios of their latencies.

    Raises:
        DataError: There is nothing to compare, or as `profile` does; the message starts with the model's name.
        ShapeError: As `profile` does.
    """
    if not models:
        raise DataError("compare: there are no models")
    profiles = {}
    for name, model in models.items():
        try:
            profiles[name] = profile(model, inputs, kwargs, device=device, max_seconds=max_seconds, **options)
        except CompressKitError as error:
            raise type(error)(f"{name}: {error}") from error
    if not latency:
        return Comparison(profiles)
    places = {real_device(model, device) for model in models.values()}
    if len(places) > 1:
        raise DataError(f"latencies compare on one device, the models are on {', '.join(sorted(map(str, places)))}")
    (place,) = places
    needed = {name: one.run_bytes for name, one in profiles.items()}
    found, faster = timed(models, Call.of(inputs, kwargs), place, needed=needed, max_seconds=max_seconds)
    return Comparison({name: replace(one, latency=found[name]) for name, one in profiles.items()}, faster)
