"""Lengths and names of a curriculum's stages."""

from collections.abc import Sequence
from typing import Any

from compresskit.errors import RecipeError


def lengths(steps: Any, length: int, what: str) -> list[int]:
    """Return the number of steps of each of `length` stages.

    Raises:
        RecipeError: `steps` is neither one whole number nor one for each stage; the message calls these `what`.
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
    """Return the name of the stage that adds a tap: its number from 1 and the address."""
    address = address if isinstance(address, str) else "+".join(address)
    return f"{number + 1}-{'output' if address == '.' else address}"
