"""A report of what was inherited, and why the rest was not."""

from collections.abc import Sequence
from dataclasses import dataclass

_MOST_NAMES = 3
"""Number of names that a summary lists for one reason."""


@dataclass(frozen=True, slots=True)
class InheritedTensor:
    """One tensor of the student."""

    name: str
    source: str | None
    """The tensor's name in the teacher; None if the teacher has none."""
    student_shape: tuple[int, ...]
    teacher_shape: tuple[int, ...] | None
    kept: tuple[tuple[int, ...], ...] = ()
    """Indices in the teacher along each axis that were copied."""
    share: float = 0.0
    """Share of the elements that were copied."""
    why: str = ""
    """The reason why not all elements were copied."""

    @property
    def status(self) -> str:
        """`inherited`, `partly` or `initial`."""
        return "inherited" if self.share == 1 else "partly" if self.share else "initial"


@dataclass(frozen=True, slots=True)
class InheritanceReport:
    """The student's tensors, and the origin of their values. It prints as a table."""

    tensors: tuple[InheritedTensor, ...]
    left_out: tuple[str, ...]
    """Names of the teacher's tensors that the student lacks."""

    @property
    def inherited(self) -> tuple[str, ...]:
        """Names of the tensors that were copied, wholly or in part."""
        return tuple(tensor.name for tensor in self.tensors if tensor.share)

    @property
    def initial(self) -> dict[str, str]:
        """Reasons by name, for tensors of which nothing was copied."""
        return {tensor.name: tensor.why for tensor in self.tensors if not tensor.share}

    def summary(self) -> str:
        """Return the counts, and what keeps its initial values, in a line or two."""
        pruned = sum(1 for tensor in self.tensors if tensor.share and tensor.student_shape != tensor.teacher_shape)
        text = f"{len(self.inherited)} of {len(self.tensors)} tensors inherited, {pruned} of them pruned"
        reasons: dict[str, list[str]] = {}
        for name, why in self.initial.items():
            reasons.setdefault(why, []).append(name)
        parts = [f"{_names(names)} ({why})" for why, names in reasons.items()]
        return f"{text}; initial values: {'; '.join(parts)}" if parts else text

    def __str__(self) -> str:
        lines = [("tensor", "teacher -> student", "channels kept", "values")]
        for tensor in self.tensors:
            theirs = "-" if tensor.teacher_shape is None else _shape(tensor.teacher_shape)
            kept = (
                f"{len(tensor.kept[0])} of {tensor.teacher_shape[0]}" if tensor.kept and tensor.teacher_shape else "-"
            )
            why = f": {tensor.why}" if tensor.why else ""
            lines.append((tensor.name, f"{theirs} -> {_shape(tensor.student_shape)}", kept, f"{tensor.status}{why}"))
        widths = [max(len(line[column]) for line in lines) for column in range(3)]
        rows = ["  ".join([*(c.ljust(w) for c, w in zip(line, widths, strict=False)), line[3]]) for line in lines]
        counts = f"{len(self.inherited)} of {len(self.tensors)} tensors inherited"
        return "\n".join([*rows, f"{counts}; {len(self.left_out)} of the teacher's left out"])


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if (more := len(names) - _MOST_NAMES) > 0 else "")


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
