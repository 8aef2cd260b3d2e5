"""Adapters: what makes a student's tensor comparable with a teacher's. They train along and are never exported.

Only channels are learned, by one linear map. Sizes need no parameters and are worked out anew for each batch, because
they may change from batch to batch.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from compresskit import nodes
from compresskit.distill.objective.extra_modules import ExtraModules
from compresskit.distill.objective.models import Point
from compresskit.distill.objective.resizing import Step, extra_tokens, size_of, steps_between
from compresskit.distill.spec.describe import describe
from compresskit.errors import RecipeError, ShapeError, within

_CONVOLUTIONS = {4: nn.Conv2d, 5: nn.Conv3d}


_NAMES = {2: "linear", 3: "linear", 4: "1x1 conv", 5: "1x1x1 conv"}


class Adapter(nn.Module):
    """Brings a student's tensor into the form of the teacher's: `student, teacher = adapter(student, teacher)`.

    The teacher's tensor comes back as it is, except that its leading class and register tokens are left out when the
    student has a map: nothing in a map corresponds to them. `str(adapter)` is one line for the plan, empty when the
    traced tensors agree already. `build_adapter` makes it.
    """

    def __init__(
        self,
        agree: Collection[str],
        *,
        extra: int = 0,
        channels: tuple[int, int] | None = None,
        learned: nn.Module | None = None,
        text: str = "",
    ) -> None:
        super().__init__()
        self.learned = learned
        """Maps the student's channels to the teacher's, all that has parameters; None where nothing needs mapping."""
        self._agree = frozenset(agree)
        self._extra = extra
        self._channels = channels
        self._text = text

    def __str__(self) -> str:
        return self._text

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Both tensors, equal in what the loss compares; the very same objects when there is nothing to do.

        Raises:
            ShapeError: This batch's tensors differ in a way that the traced ones did not.
        """
        if self.learned is None and student.shape == teacher.shape:
            return student, teacher
        with _naming(student.shape, teacher.shape):
            steps = _steps(student.shape, teacher.shape, self._agree, self._extra)
            self._check_channels(channels_of(student.shape), channels_of(teacher.shape))
        if self.learned is not None:
            student = self.learned(student)
        for step in steps:
            student = step.run(student)
        if self._extra and teacher.dim() == 3:  # the student's own extra tokens went with the steps
            teacher = teacher[:, self._extra :]
        return student, teacher

    def _check_channels(self, student: int, teacher: int) -> None:
        same = student == teacher if self._channels is None else (student, teacher) == self._channels
        if "channels" in self._agree and not same:
            raise ShapeError(
                "the channels are not those of the traced batch; they are read from (n, c), (n, length, c) or "
                "(n, c, h, w): give an adapter if yours are elsewhere"
            )


def channels_of(shape: torch.Size) -> int:
    """How many channels: last in tokens, second in vectors, maps and volumes."""
    return shape[2] if len(shape) == 3 else shape[1]


def build_adapter(
    student: torch.Size,
    teacher: torch.Size,
    agree: Collection[str],
    keep: Callable[[Callable[[], nn.Module]], nn.Module] = lambda build: build(),
) -> Adapter | None:
    """The adapter between two traced shapes, or None for a loss that needs nothing to agree.

    Args:
        student: Shape of the student's tensor: a vector (n, c), tokens (n, length, c), a map (n, c, h, w) or a volume
            (n, c, d, h, w).
        teacher: Shape of the teacher's tensor, of any of these kinds.
        agree: What the loss compares one to one: any of "channels" and "space".
        keep: Called when channels have to be mapped, with what builds the linear map; gives it back, or the one that
            it keeps from an earlier stage.

    Raises:
        ShapeError: The two differ in a way that only the user can settle.
    """
    if not agree:
        return None
    if student == teacher:
        return Adapter(agree)
    with _naming(student, teacher):
        extra = extra_tokens(size_of(student), size_of(teacher)) if "space" in agree else 0
        words = [step.text for step in _steps(student, teacher, agree, extra)]
    channels = channels_of(student), channels_of(teacher)
    if "channels" not in agree or channels[0] == channels[1]:
        return Adapter(agree, extra=extra, text=" + ".join(words))
    words.insert(0, f"{_NAMES[len(student)]} {channels[0]}→{channels[1]}")
    learned = keep(lambda: _linear_map(len(student), *channels))
    return Adapter(agree, extra=extra, channels=channels, learned=learned, text=" + ".join(words))


def _steps(student: torch.Size, teacher: torch.Size, agree: Collection[str], extra: int) -> list[Step]:
    """What to do about the size of a student's tensor."""
    sizes = size_of(student), size_of(teacher)
    if student[0] != teacher[0]:
        raise ShapeError("the batch sizes differ; both must hold the same samples")
    return list(steps_between(*sizes, extra)) if "space" in agree else []


def _linear_map(dimensions: int, student: int, teacher: int) -> nn.Module:
    if dimensions in _CONVOLUTIONS:
        return _CONVOLUTIONS[dimensions](student, teacher, kernel_size=1)
    return nn.Linear(student, teacher)


@contextmanager
def _naming(student: torch.Size, teacher: torch.Size) -> Iterator[None]:
    """Errors inside begin with the two shapes."""
    try:
        yield
    except ShapeError as error:
        raise ShapeError(f"student {tuple(student)} and teacher {tuple(teacher)}: {error}") from None


@dataclass(frozen=True, slots=True)
class Glue:
    """Brings the student's tensor into the form of the teacher's."""

    adapter: Adapter | nn.Module | None = None

    def __call__(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Both tensors, fit to be compared. A module of the user's is given the student's alone."""
        if isinstance(self.adapter, Adapter):
            return self.adapter(student, teacher)
        return (student if self.adapter is None else self.adapter(student)), teacher

    def __str__(self) -> str:
        return "" if self.adapter is None else str(self.adapter).partition("\n")[0]

    @property
    def module(self) -> nn.Module | None:
        """What may hold parameters."""
        return self.adapter.learned if isinstance(self.adapter, Adapter) else self.adapter


def glue(
    adapter: str | nn.Module | Mapping[str, Any] | None,
    points: tuple[Point, Point],
    shapes: tuple[torch.Size, torch.Size],
    agree: Collection[str],
    learned: ExtraModules,
    where: str,
) -> Glue:
    """What brings the tensor at the first point into the form of that at the second.

    Args:
        adapter: As in a match.
        points: The two taps; a pair has one adapter, whoever asks for it.
        shapes: Of the two traced tensors.
        agree: What has to agree.
        learned: Where adapters live.
        where: What messages start with.

    Raises:
        RecipeError: A node cannot be built, or the pair already has another adapter.
        ShapeError: No adapter can be built between these shapes.
    """
    if adapter is None:
        return Glue()
    pair = f"{points[0].key} -> {points[1].key}"
    keep = partial(learned.keep, f"adapter:{pair}")
    if adapter == "auto":
        with within(where):
            return Glue(build_adapter(*shapes, agree, keep=lambda b: keep(lambda: b().to(learned.dtype), "auto")))
    kept = keep(lambda: _given(adapter, where), describe(adapter))
    if isinstance(adapter, nn.Module) and kept is not adapter:
        raise RecipeError(f"{where}: the pair {pair} already has another adapter; one pair, one adapter")
    return Glue(kept)


def _given(adapter: Any, where: str) -> nn.Module:
    return adapter if isinstance(adapter, nn.Module) else nodes.build(adapter, kind="module", where=f"{where}: adapter")
