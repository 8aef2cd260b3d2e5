"""What the engine has to know of a loss before it calls it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

EVERYTHING = frozenset({"channels", "space"})


@dataclass(frozen=True, slots=True)
class Entry:
    """A loss, and what it needs: what an adapter makes equal first, labels, whole batches."""

    function: Callable[..., Any]
    """`(student, teacher_or_target, **options) -> scalar`, or what makes such a callable: see `built`."""
    agree: frozenset[str] = EVERYTHING
    """What an adapter may make equal between the two sides: any of "channels" and "space". A loss may need more to be
    equal than it lists, where an adapter would learn the match in the student's place; then it raises a ShapeError."""
    built: bool = False
    """Whether `function` is a class or factory, called once with the options; else they come with each call."""
    name: str = ""
    """What messages and logs call it."""
    relational: bool = False
    """Whether the value depends on which samples share a batch, so that the mean over two halves is another."""
    labels: bool = False
    """Whether the loss takes the batch's target as a third positional argument."""
    several: bool = False
    """Whether each side is a tuple of tensors, of a match that names several taps."""

    @property
    def positional(self) -> int:
        """How many positional arguments `function` is called with; the others are the options."""
        return 0 if self.built else 3 if self.labels else 2
