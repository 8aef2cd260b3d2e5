"""Terms: matches and tasks bound to losses and adapters."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compresskit import nodes
from compresskit.distill.objective.adapters import Glue, glue
from compresskit.distill.objective.extra_modules import ExtraModules
from compresskit.distill.objective.models import Point
from compresskit.distill.spec.describe import describe
from compresskit.distill.spec.match import Match, Task
from compresskit.distill.spec.schedules import value_at
from compresskit.errors import DataError, RecipeError, ShapeError
from compresskit.losses.catalogue import make_loss, resolve_loss
from compresskit.losses.entry import Entry


@dataclass(frozen=True, slots=True)
class Term:
    """A match or a task with all that is needed to compute it."""

    spec: Match | Task
    entry: Entry
    loss: Callable[..., Any]
    glue: Glue | None = None
    target: Callable[[Any], Any] | None = None

    def modules(self) -> Iterator[nn.Module]:
        """What of this term may hold parameters."""
        adapter = None if self.glue is None else self.glue.module
        yield from (part for part in (adapter, self.loss) if isinstance(part, nn.Module))

    def value(
        self, students: Sequence[Tensor], teachers: Sequence[Tensor], targets: Any, step: int, steps: int
    ) -> Tensor:
        """The unweighted loss, in float32 or better.

        Args:
            students: The tensors of the student's side.
            teachers: The tensors of the teacher's side; a task has none.
            targets: The batch's.
            step: Where in the stage the options' schedules stand.
            steps: Steps of the stage.

        Raises:
            DataError: The term needs targets and the batch has none.
            ShapeError: The two sides cannot be compared, or the loss is not one number.
        """
        if isinstance(self.spec, Match):
            sides = [_side(self.spec.student, students), _side(self.spec.teacher, teachers)]
            if self.glue is not None:
                sides = self.glue(*sides)
            arguments = (*sides, _wide(self._targets(targets))) if self.entry.labels else sides
        else:
            target = self._targets(targets)
            arguments = (_wide(students[0]), _wide(target if self.target is None else self.target(_wide(target))))
        options = self.spec.options if not self.entry.built else {}  # a class or factory got its own when it was made
        value = self.loss(*arguments, **{name: value_at(option, step, steps) for name, option in options.items()})
        if not isinstance(value, Tensor) or value.numel() != 1:
            found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ShapeError(f"a loss must give one number, got {found}")
        value = _wide(value)
        return value if value.dim() == 0 else value.reshape(())

    def _targets(self, targets: Any) -> Any:
        if targets is None:
            raise DataError(f"{self.spec.name} needs targets, and the batch has none: a batch is (inputs, targets)")
        return targets


def bind_match(
    match: Match,
    student: Sequence[Point],
    teacher: Sequence[Point],
    shapes: tuple[Sequence[torch.Size], Sequence[torch.Size]],
    learned: ExtraModules,
    where: str,
) -> Term:
    """The term of a match between taps whose tensors have `shapes`; its adapter is built where one is missing.

    Raises:
        RecipeError: A node cannot be built, or the pair already has another adapter.
        ShapeError: No adapter can be built between these shapes.
    """
    entry = resolve_loss(match.loss, where=where)
    between = None
    if isinstance(match.student, str) and isinstance(match.teacher, str):
        between = glue(
            match.adapter, (student[0], teacher[0]), (shapes[0][0], shapes[1][0]), entry.agree, learned, where
        )
    elif match.adapter not in ("auto", None):
        raise RecipeError(f"{where}: a match of several taps gets no adapter; its loss takes tuples as they are")
    return Term(match, entry, _bound_loss(match, entry, learned, (*student, *teacher), where), between)


def bind_task(task: Task, student: Point, learned: ExtraModules, where: str) -> Term:
    """The term of a task.

    Raises:
        RecipeError: The loss or the target's node cannot be built.
    """
    entry = resolve_loss(task.loss, where=where)
    target = task.target
    if isinstance(target, Mapping):
        target = nodes.build(target, kind="callable", where=f"{where}: target")
    return Term(task, entry, _bound_loss(task, entry, learned, (student,), where), target=target)


def _bound_loss(
    spec: Match | Task, entry: Entry, learned: ExtraModules, points: Sequence[Point], where: str
) -> Callable[..., Any]:
    """The callable; a module lives on across the stages that use it on these taps with the same options."""
    loss = make_loss(entry, spec.options, where=where)
    if not isinstance(loss, nn.Module):
        return loss
    key = f"loss:{entry.name}({describe(spec.options)}) {' -> '.join(point.key for point in points)}"
    number = 1
    while not entry.built and learned.modules.get(key, loss) is not loss:  # another instance of the user's
        number += 1
        key = f"{key.partition(' *')[0]} *{number}"
    return learned.keep(key, lambda: loss)


def _side(addresses: str | tuple[str, ...], tensors: Sequence[Tensor]) -> Any:
    """What a loss is given of one side: a tensor, or a tuple where several addresses were named."""
    return _wide(tensors[0]) if isinstance(addresses, str) else tuple(_wide(tensor) for tensor in tensors)


def _wide(value: Any) -> Any:
    """Half precision becomes float32; anything else, labels included, stays what it is."""
    return value.float() if isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16) else value
