"""Goals such as `max psnr`: a metric of an evaluation and the direction that is better."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from compresskit.errors import RecipeError


@dataclass(frozen=True, slots=True)
class Goal:
    """A metric and the direction that is better."""

    mode: Literal["max", "min"]
    metric: str

    def better(self, value: float, than: float, by: float = 0.0) -> bool:
        """Return whether `value` is better than `than` by more than `by`. NaN never is."""
        return value > than + by if self.mode == "max" else value < than - by

    @property
    def worst(self) -> float:
        """The start of a search for the best value: an infinity that every number is better than."""
        return -math.inf if self.mode == "max" else math.inf


def parse_goal(text: Any, name: str) -> Goal:
    """Parse `"max psnr"`.

    Raises:
        RecipeError: The text is not a goal; the message starts with `name`.
    """
    mode, _, metric = text.partition(" ") if isinstance(text, str) else ("", "", "")
    if mode not in ("max", "min") or not metric.strip():
        raise RecipeError(f"{name} must be 'max METRIC' or 'min METRIC', got {text!r}", path=tuple(name.split(": ")))
    return Goal("max" if mode == "max" else "min", metric.strip())
