"""Adapters: they make a student's tensor comparable with a teacher's, train along, and are never exported.

Only channels are learned, by one linear map. Sizes need no parameters and are matched batch by batch, because they may
change from batch to batch.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from compresskit import nodes
from compresskit.distill.objective.extra_modules import ExtraModules
from compresskit.distill.objective.models import Point
from compresskit.distill.objective.resizing import Step, extra_tokens, size_of, steps_between
from compresskit.distill.spec.describe import describe
from compresskit.distill.taps.failure import explain_failure
from compresskit.errors import RecipeError, ShapeError, at

_LINEAR_MAPS: Mapping[int, tuple[str, Callable[[int, int], nn.Module]]] = {
    2: ("linear", nn.Linear),
    3: ("linear", nn.Linear),
    4: ("1x1 conv", partial(nn.Conv2d, kernel_size=1)),
    5: ("1x1x1 conv", partial(nn.Conv3d, kernel_size=1)),
}
"""Name and class of the linear map over the channels of a tensor, by its number of dimensions."""


class Adapter:
    """A module of the user's on the student's side, or nothing: `student, teacher = adapter(student, teacher)`.

    `str(adapter)` is one line for the plan, empty where nothing is done.

    Args:
        module: Module that is called with the student's tensor alone; None leaves that as it is.
    """

    def __init__(self, module: nn.Module | None = None) -> None:
        self.module = module
        """The part that may have parameters."""

    def __call__(self, student: Any, teacher: Any) -> tuple[Any, Any]:
        """Return both tensors, ready to be compared."""
        if self.module is None:
            return student, teacher
        with explain_failure("the adapter", self.module):
            return self.module(student), teacher

    def __str__(self) -> str:
        return "" if self.module is None else str(self.module).partition("\n")[0]


class AutoAdapter(Adapter):
    """An adapter that `build_adapter` makes from two traced shapes.

    It maps the student's channels if necessary and resizes the student's tensor. The teacher's tensor stays as it is,
    except that its leading class and register tokens are left out if the student has a map: nothing in a map
    corresponds to them.

    Args:
        agree: Properties that the loss compares one to one: any of "channels" and "space".
        extra: Number of leading tokens without a place in the map on the other side.
        channels: Channels of both traced tensors; None if they are equal.
        module: Linear map from the student's channels to the teacher's; None if there is none.
        text: Line for the plan.
    """

    def __init__(
        self,
        agree: Collection[str],
        *,
        extra: int = 0,
        channels: tuple[int, int] | None = None,
        module: nn.Module | None = None,
        text: str = "",
    ) -> None:
        super().__init__(module)
        self._agree = frozenset(agree)
        self._extra, self._channels, self._text = extra, channels, text

    def __str__(self) -> str:
        return self._text

    def __call__(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Return both tensors, equal in what the loss compares; the same objects if there is nothing to do.

        Raises:
            ShapeError: This batch's tensors differ in a way that the traced ones did not.
        """
        if self.module is None and student.shape == teacher.shape:
            return student, teacher
        with _naming_shapes(student.shape, teacher.shape):
            steps = _resizing_steps(student.shape, teacher.shape, self._agree, self._extra)
            self._check_channels(_channels_of(student.shape), _channels_of(teacher.shape))
        if self.module is not None:
            student = self.module(student)
        for step in steps:
            student = step.run(student)
        if self._extra and teacher.dim() == 3:  # the steps have left out those of the student
            teacher = teacher[:, self._extra :]
        return student, teacher

    def _check_channels(self, student: int, teacher: int) -> None:
        same = student == teacher if self._channels is None else (student, teacher) == self._channels
        if "channels" in self._agree and not same:
            raise ShapeError(
                "the channels are not those of the traced batch; they are read from (n, c), (n, length, c) or "
                "(n, c, h, w): give an adapter if yours are elsewhere"
            )


def build_adapter(
    student: torch.Size,
    teacher: torch.Size,
    agree: Collection[str],
    keep: Callable[[Callable[[], nn.Module]], nn.Module] = lambda build: build(),
) -> Adapter:
    """Return the adapter between two traced shapes; it does nothing for a loss that needs nothing to agree.

    Args:
        student: Shape of the student's tensor: a vector (n, c), tokens (n, length, c), a map (n, c, h, w) or a volume
            (n, c, d, h, w).
        teacher: Shape of the teacher's tensor, of any of these kinds.
        agree: Properties that the loss compares one to one: any of "channels" and "space".
        keep: Function that gets the builder of the linear map if channels have to be mapped, and returns the map: a new
            one, or the one of an earlier stage.

    Raises:
        ShapeError: The two differ in a way that only the user can settle.
    """
    if not agree:
        return Adapter()
    if student == teacher:
        return AutoAdapter(agree)
    with _naming_shapes(student, teacher):
        extra = extra_tokens(size_of(student), size_of(teacher)) if "space" in agree else 0
        texts = [step.text for step in _resizing_steps(student, teacher, agree, extra)]
    channels = _channels_of(student), _channels_of(teacher)
    if "channels" not in agree or channels[0] == channels[1]:
        return AutoAdapter(agree, extra=extra, text=" + ".join(texts))
    name, linear_map = _LINEAR_MAPS[len(student)]
    texts.insert(0, f"{name} {channels[0]}→{channels[1]}")
    module = keep(lambda: linear_map(*channels))
    return AutoAdapter(agree, extra=extra, channels=channels, module=module, text=" + ".join(texts))


def bind_adapter(
    spec: str | nn.Module | Mapping[str, Any] | None,
    points: tuple[Point, Point],
    shapes: tuple[torch.Size, torch.Size],
    agree: Collection[str],
    extra_modules: ExtraModules,
) -> Adapter:
    """Return the adapter from the tensor at the first point to that at the second.

    Args:
        spec: The adapter of a match or a splice.
        points: The two taps; a pair has one adapter in all terms and stages.
        shapes: Shapes of the two traced tensors.
        agree: Properties that have to agree.
        extra_modules: Collection in which the adapters' modules live.

    Raises:
        RecipeError: A node cannot be built, or the pair already has another adapter.
        ShapeError: No adapter can be built between these shapes.
    """
    if spec is None:
        return Adapter()
    pair = f"{points[0].key} -> {points[1].key}"
    get_or_build = partial(extra_modules.get_or_build, f"adapter:{pair}")
    if spec == "auto":
        dtype = extra_modules.dtype
        return build_adapter(*shapes, agree, keep=lambda build: get_or_build(lambda: build().to(dtype), "auto"))
    module = get_or_build(lambda: _own_module(spec), describe(spec))
    if isinstance(spec, nn.Module) and module is not spec:
        raise RecipeError(f"the pair {pair} already has another adapter; one pair, one adapter")
    return Adapter(module)


def _own_module(spec: Any) -> nn.Module:
    if isinstance(spec, nn.Module):
        return spec
    with at("adapter"):
        return nodes.build(spec, kind="module")


def _channels_of(shape: torch.Size) -> int:
    """Return the number of channels, which are last in tokens and second in vectors, maps and volumes."""
    return shape[2] if len(shape) == 3 else shape[1]


def _resizing_steps(student: torch.Size, teacher: torch.Size, agree: Collection[str], extra: int) -> list[Step]:
    """Return the steps from the size of a student's tensor to that of a teacher's."""
    sizes = size_of(student), size_of(teacher)
    if student[0] != teacher[0]:
        raise ShapeError("the batch sizes differ; both must hold the same samples")
    return list(steps_between(*sizes, extra)) if "space" in agree else []


@contextmanager
def _naming_shapes(student: torch.Size, teacher: torch.Size) -> Iterator[None]:
    """Put the two shapes before the message of a ShapeError raised inside the block."""
    try:
        yield
    except ShapeError as error:
        error.within(f"student {tuple(student)} and teacher {tuple(teacher)}")
        raise
