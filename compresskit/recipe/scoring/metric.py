"""A metric: what a figure is called, its unit, which way is better, and how it reads in a table and in a sentence."""

from dataclasses import dataclass

_PLACES = {"dB": (2, 3), "%": (2, 2)}
"""Decimals by unit: of a value, and of a difference of two."""


_DEFAULT_PLACES = (4, 4)


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
        """A value as the table shows it."""
        return f"{value:.{self._places[0]}f}"

    def spread(self, value: float) -> str:
        """How far values lie apart, as exact as their differences: a standard deviation."""
        return f"{value:.{self._places[1]}f}"

    def change(self, value: float) -> str:
        """A difference of two values, with its sign."""
        return f"{value:+.{self._places[1]}f}"

    def signed(self, value: float) -> str:
        """A difference of two values, with its sign and unit."""
        unit = "percentage points" if self.unit == "%" else self.unit or self.name.replace("_", " ")
        return f"{self.change(value)} {unit}"

    def gain(self, value: float, than: float = 0.0) -> float:
        """By how much `value` is better; below 0 if it is worse."""
        return than - value if self.lower_is_better else value - than

    @property
    def _places(self) -> tuple[int, int]:
        return _PLACES.get(self.unit, _DEFAULT_PLACES)
