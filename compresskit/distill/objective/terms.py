"""Terms: matches and tasks with their losses and adapters, ready to be computed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from compresskit import nodes
from compresskit.distill.objective.adapters import Adapter, bind_adapter
from compresskit.distill.objective.classes import ChosenClasses, check_same_classes, chosen_shape
from compresskit.distill.objective.extra_modules import ExtraModules
from compresskit.distill.objective.models import Point
from compresskit.distill.objective.positions import Parts, Positions
from compresskit.distill.spec.describe import describe
from compresskit.distill.spec.match import Match, Task
from compresskit.distill.spec.schedules import value_at
from compresskit.errors import CompressKitError, DataError, RecipeError, ShapeError, at, first_line
from compresskit.losses.catalogue import make_loss, resolve_loss
from compresskit.losses.entry import Entry


@dataclass(frozen=True, slots=True)
class Term:
    """A match or a task with its loss, and with a match's adapter or a task's map of the targets."""

    spec: Match | Task
    entry: Entry
    loss: Callable[..., Any]
    adapter: Adapter = field(default_factory=Adapter)
    target: Callable[[Any], Any] | None = None
    positions: Positions | None = None
    """The positions that it compares, where they are masked or decide the weight of a batch in a mean."""

    def modules(self) -> Iterator[nn.Module]:
        """Yield the modules of this term that may have parameters."""
        yield from (part for part in (self.adapter.module, self.loss) if isinstance(part, nn.Module))

    def value(
        self,
        students: Sequence[Tensor],
        teachers: Sequence[Tensor],
        targets: Any,
        step: int,
        steps: int,
        inputs: Any = None,
    ) -> Tensor:
        """Return the unweighted loss, in float32 or double precision.

        Args:
            students: Tensors of the student's side.
            teachers: Tensors of the teacher's side; a task has none.
            targets: The batch's targets.
            step: Step in the stage, for the schedules of options.
            steps: Steps of the stage.
            inputs: The batch's inputs, for a mask.

        Raises:
            DataError: The term needs targets and the batch has none.
            ShapeError: The two sides cannot be compared, or the loss is not one number.
        """
        if isinstance(self.spec, Match):
            student, teacher = _loss_input(self.spec.student, students), _loss_input(self.spec.teacher, teachers)
            arguments = self.adapter(student, teacher)
            if self.entry.labels:
                arguments = (*arguments, _at_least_float32(self._check_targets(targets)))
        else:
            arguments = (_loss_input(self.spec.student, students), self.mapped_target(targets))
        options = {}
        if not self.entry.built and self.spec.options:  # a class or factory has got its options already
            options = {name: value_at(option, step, steps) for name, option in self.spec.options.items()}
        try:
            if self.positions is not None and self.positions.mask is not None:
                value = self._masked(self.positions, arguments, Parts(inputs, targets), options)
            else:
                value = self.loss(*arguments, **options)
        except (RuntimeError, ValueError, IndexError, TypeError, NotImplementedError) as error:
            if isinstance(error, (CompressKitError, torch.OutOfMemoryError)) or not _is_torchs(self.entry.function):
                raise
            raise ShapeError(f"{self.entry.name} cannot compare {_shapes(arguments)}: {first_line(error)}") from error
        if not isinstance(value, Tensor) or value.numel() != 1:
            result = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ShapeError(f"a loss must return one number, got {result}")
        value = _at_least_float32(value)
        return value if value.dim() == 0 else value.reshape(())

    def mapped_target(self, targets: Any) -> Any:
        """Return a task's own target for the batch's targets.

        Raises:
            DataError: The batch has none.
        """
        target = _at_least_float32(self._check_targets(targets))
        return target if self.target is None else _at_least_float32(self.target(target))

    def _masked(self, positions: Positions, arguments: Sequence[Any], parts: Parts, options: dict[str, Any]) -> Tensor:
        """Return the loss over the kept positions; 0 where none is kept."""
        if positions.passes_mask:
            return self.loss(*arguments, mask=positions.whole_mask(arguments[0], parts), **options)
        rows = positions.rows(arguments, parts)
        if len(rows[0]) == 0:
            return rows[0].sum()
        return self.loss(*rows, **{name: option for name, option in options.items() if name != "dim"})

    def _check_targets(self, targets: Any) -> Any:
        if targets is None:
            raise DataError(f"{self.spec.name} needs targets, and the batch has none: a batch is (inputs, targets)")
        return targets


def _is_torchs(function: Any) -> bool:
    """Return whether a loss is torch's own, whose errors name neither the loss nor the sides."""
    return str(getattr(function, "__module__", "")).partition(".")[0] == "torch"


def _shapes(arguments: Sequence[Any]) -> str:
    shapes = [tuple(side.shape) if isinstance(side, Tensor) else type(side).__name__ for side in arguments]
    return " and ".join(map(str, shapes))


def bind_match(
    match: Match,
    student: Sequence[Point],
    teacher: Sequence[Point],
    shapes: tuple[Sequence[torch.Size], Sequence[torch.Size]],
    extra_modules: ExtraModules,
    inputs: Any = None,
) -> Term:
    """Return the term of a match.

    Args:
        match: The match.
        student: Taps on the student's side.
        teacher: Taps on the teacher's side.
        shapes: Traced shapes on both sides.
        extra_modules: Collection in which adapters and losses with parameters live.
        inputs: Inputs of the traced batch.

    Raises:
        RecipeError: A node cannot be built, or the pair already has another adapter.
        ShapeError: No adapter can be built between these shapes.
    """
    entry = resolve_loss(match.loss)
    adapter = Adapter()
    if isinstance(match.student, str) and isinstance(match.teacher, str):
        pair = student[0], teacher[0]
        adapter = _adapter(match, entry, pair, (shapes[0][0], shapes[1][0]), extra_modules)
    elif match.adapter not in ("auto", None):
        raise RecipeError("a match of several taps takes no adapter; its loss gets tuples as they are")
    loss = _bind_loss(match, entry, extra_modules, (*student, *teacher))
    return Term(match, entry, loss, adapter, positions=_positions(match, entry, shapes[0], inputs))


def _adapter(
    match: Match,
    entry: Entry,
    pair: tuple[Point, Point],
    shapes: tuple[torch.Size, torch.Size],
    extra_modules: ExtraModules,
) -> Adapter:
    """Return the adapter of a match with one tap on each side; none maps logits to other classes by itself."""
    student, teacher = shapes
    axis = 0
    if match.classes is not None:
        teacher, axis = chosen_shape(entry, teacher, match.classes, match.options)
    if entry.logits and match.adapter == "auto" and student != teacher:
        check_same_classes(entry, student, teacher, match.options)
    adapter = bind_adapter(match.adapter, pair, (student, teacher), entry.agree, extra_modules)
    return adapter if match.classes is None else ChosenClasses(adapter, match.classes, axis)


def bind_task(
    task: Task, student: Sequence[Point], shapes: Sequence[torch.Size], extra_modules: ExtraModules, inputs: Any = None
) -> Term:
    """Return the term of a task.

    Args:
        task: The task.
        student: Taps on the student's side.
        shapes: Traced shapes there.
        extra_modules: Collection in which losses with parameters live.
        inputs: Inputs of the traced batch.

    Raises:
        RecipeError: The loss or the target's node cannot be built.
    """
    entry = resolve_loss(task.loss)
    target = task.target
    if isinstance(target, Mapping):
        with at("target"):
            target = nodes.build(target, kind="callable")
    positions = _positions(task, entry, shapes, inputs)
    return Term(task, entry, _bind_loss(task, entry, extra_modules, student), target=target, positions=positions)


def _positions(spec: Match | Task, entry: Entry, shapes: Sequence[torch.Size], inputs: Any) -> Positions | None:
    """Return the positions of a term with a mask, or one whose batches weigh by their tokens; None for any other."""
    if len(shapes) > 1:
        if spec.mask is not None:
            raise RecipeError("mask: a term of several taps takes no mask", path=("mask",))
        return None
    if spec.mask is None and "ignore_index" not in spec.options and (len(shapes[0]) < 3 or not entry.by_position):
        return None
    positions = Positions(spec, entry, shapes[0], inputs)
    return positions if positions.mask is not None or positions.decides_weight else None


def _bind_loss(
    spec: Match | Task, entry: Entry, extra_modules: ExtraModules, points: Sequence[Point]
) -> Callable[..., Any]:
    """Return the loss; a module lives on in the stages that use it on these taps with the same options."""
    loss = make_loss(entry, spec.options)
    if not isinstance(loss, nn.Module):
        return loss
    key = f"loss:{entry.name}({describe(spec.options)}) {' -> '.join(point.key for point in points)}"
    number = 1
    while not entry.built and extra_modules.modules.get(key, loss) is not loss:  # another instance of the user's
        number += 1
        key = f"{key.partition(' *')[0]} *{number}"
    return extra_modules.get_or_build(key, lambda: loss)


def _loss_input(addresses: str | tuple[str, ...], tensors: Sequence[Tensor]) -> Any:
    """Return one side's input of a loss: a tensor, or a tuple if the match names several addresses."""
    if isinstance(addresses, str):
        return _at_least_float32(tensors[0])
    return tuple(_at_least_float32(tensor) for tensor in tensors)


def _at_least_float32(value: Any) -> Any:
    """Return half precision as float32, and anything else, labels included, as it is."""
    return value.float() if isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16) else value
