"""How long the stages of a curriculum are, and what they are called."""

from collections.abc import Sequence
from typing import Any

from compresskit.errors import RecipeError


def lengths(steps: Any, length: int, what: str) -> list[int]:
    """One number of steps for each of so many stages.

    Raises:
        RecipeError: `steps` is neither one whole number nor as many as there are stages.
    """
    if isinstance(steps, int):
        return [steps] * length
    if isinstance(steps, str) or not isinstance(steps, Sequence):
        raise RecipeError(
            f"steps must be a whole number, or one for each of the {what}, got {steps!r}", path=("steps",)
        )
    if len(steps) != length:
        raise RecipeError(
            f"steps: {len(steps)} numbers for {length} {what}; give one number, or one for each", path=("steps",)
        )
    return list(steps)


def stage_name(number: int, address: str | Sequence[str]) -> str:
    """The name of the stage, counted from 0, that adds a tap."""
    address = address if isinstance(address, str) else "+".join(address)
    return f"{number + 1}-{'output' if address == '.' else address}"
