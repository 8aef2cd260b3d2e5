"""Limits of numeric options, with one wording for all losses."""

from compresskit.errors import RecipeError


def above_zero(value: float | int, *, option: str) -> None:
    """Raise a RecipeError unless `value` is above 0; `option` is what the message calls it: "kl: temperature"."""
    if not value > 0:
        raise RecipeError(f"{option} must be above 0, got {value}")


def not_negative(value: float | int, *, option: str) -> None:
    """Raise a RecipeError unless `value` is at least 0; `option` is what the message calls it: "dkd: alpha"."""
    if not value >= 0:
        raise RecipeError(f"{option} must be at least 0, got {value}")
