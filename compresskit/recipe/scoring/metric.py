"""Metrics: name, unit and direction of a figure, and its text in a table and in a sentence."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

_DECIMALS = {"dB": (2, 3), "%": (2, 2)}
"""Decimals of a value and of a difference of two values, by unit."""


_DEFAULT_DECIMALS = (4, 4)


@dataclass(frozen=True, slots=True)
class Metric:
    """One kind of figure that an evaluation gives."""

    name: str
    unit: str = ""
    lower_is_better: bool = False

    @property
    def title(self) -> str:
        """The heading of its column: `PSNR (dB)`."""
        name = self.name.upper().replace("_", "-")
        return f"{name} ({self.unit})" if self.unit else name

    def figure(self, value: float) -> str:
        """Return the text of a value."""
        return f"{value:.{self._decimals[0]}f}"

    def spread(self, value: float) -> str:
        """Return the text of a standard deviation, with the decimals of a difference."""
        return f"{value:.{self._decimals[1]}f}"

    def change(self, value: float) -> str:
        """Return the text of a difference of two values, with its sign."""
        return f"{value:+.{self._decimals[1]}f}"

    def signed(self, value: float) -> str:
        """Return the text of a difference of two values, with its sign and unit."""
        unit = "percentage points" if self.unit == "%" else self.unit or self.name.replace("_", " ")
        return f"{self.change(value)} {unit}"

    def gain(self, value: float, than: float = 0.0) -> float:
        """Return by how much `value` is better than another; a negative number if it is worse."""
        return than - value if self.lower_is_better else value - than

    @property
    def _decimals(self) -> tuple[int, int]:
        return _DECIMALS.get(self.unit, _DEFAULT_DECIMALS)


def metrics_by_name(
    names: Iterable[str], units: Mapping[str, str], lower_is_better: str | Collection[str]
) -> list[Metric]:
    """Return a metric for each name, with what an evaluation says about them; see `compresskit.Evaluation`."""
    lower = as_names(lower_is_better)
    return [Metric(name, units.get(name, ""), name in lower) for name in names]


def as_names(names: str | Iterable[str]) -> list[str]:
    """Return a list of names; a single one may be written as plain text."""
    return [names] if isinstance(names, str) else list(names)
