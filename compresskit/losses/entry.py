"""Properties of a loss that the engine needs before it calls the loss."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

EVERYTHING = frozenset({"channels", "space"})


@dataclass(frozen=True, slots=True)
class Entry:
    """A loss, and what it needs: equal channels or space, labels, whole batches."""

    function: Callable[..., Any]
    """A function `(student, teacher_or_target, **options) -> scalar`, or a class or factory that builds one."""
    agree: frozenset[str] = EVERYTHING
    """Sizes that an adapter may make equal on both sides: any of "channels" and "space". A loss may need more sizes to
    be equal, if an adapter would learn the match in the student's place; then it raises a ShapeError."""
    built: bool = False
    """True for a class or factory, which is called once with the options; a function gets them in each call."""
    name: str = ""
    """Name of the loss in messages and logs."""
    relational: bool = False
    """True if the value depends on which samples share a batch, so that it differs from the mean over two halves."""
    labels: bool = False
    """True if the loss takes the batch's target as a third positional argument."""
    logits: bool = False
    """True if it compares scores of the same classes on both sides: no adapter ever maps these to one another."""
    by_position: bool | None = None
    """True if it is a mean over positions (samples, pixels, tokens) that it compares one by one, so that a mask can
    leave some out; None if that is not known, as for a user's own loss."""
    several: bool = False
    """True if each side is a tuple of tensors, from a match that names several taps."""

    @property
    def positional(self) -> int:
        """Number of positional arguments of `function`; its other arguments are the options."""
        return 0 if self.built else 3 if self.labels else 2
