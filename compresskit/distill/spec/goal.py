"""Goals: `max psnr`, the metric of an evaluation and which way is better."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from compresskit.errors import RecipeError


@dataclass(frozen=True, slots=True)
class Goal:
    """A metric, and which way is better."""

    mode: Literal["max", "min"]
    metric: str

    def better(self, value: float, than: float, by: float = 0.0) -> bool:
        """Whether `value` is better by more than `by`. NaN never is."""
        return value > than + by if self.mode == "max" else value < than - by

    @property
    def worst(self) -> float:
        """What everything is better than."""
        return -math.inf if self.mode == "max" else math.inf


def parse_goal(text: Any, name: str) -> Goal:
    """Read `"max psnr"`.

    Raises:
        RecipeError: The text is no goal; the message starts with `name`.
    """
    mode, _, metric = text.partition(" ") if isinstance(text, str) else ("", "", "")
    if mode not in ("max", "min") or not metric.strip():
        raise RecipeError(f"{name} must be 'max METRIC' or 'min METRIC', got {text!r}", path=tuple(name.split(": ")))
    return Goal("max" if mode == "max" else "min", metric.strip())
