"""The choice among a teacher's classes: a slice, the text of one, or a list of indices."""

from collections.abc import Sequence
from typing import Any

from compresskit.errors import RecipeError

ClassIndex = slice | list[int]
"""An index into the dimension of the classes."""


def parse_classes(value: Any) -> ClassIndex:
    """Return the index that a match's `classes` means.

    Raises:
        RecipeError: It is none of a slice, a text such as ":10" or a list of whole numbers.
    """
    if isinstance(value, slice):
        return value
    if isinstance(value, str) and ":" in value:
        parts = [part.strip() for part in value.split(":")]
        if len(parts) <= 3 and all(part == "" or part.lstrip("-").isdigit() for part in parts):
            return slice(*(int(part) if part else None for part in parts))
    indices = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    if indices and all(isinstance(index, int) and not isinstance(index, bool) for index in indices):
        return indices
    raise RecipeError(
        f"classes must be a slice such as slice(10) or ':10', or a list of the teacher's classes, got {value!r}",
        path=("classes",),
    )


def slice_text(value: slice) -> str:
    """Return a slice as it is written between brackets: ":10"."""
    start, stop, step = ("" if part is None else str(part) for part in (value.start, value.stop, value.step))
    return f"{start}:{stop}" + (f":{step}" if step else "")
