"""The loss of one stage: a batch's inputs and targets in, one differentiable number and its terms out."""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Any, Self

import torch
from torch import Tensor, nn

from compresskit.distill.preserved import preserved
from compresskit.distill.schedules import value_at
from compresskit.distill.stage import Match, Stage
from compresskit.distill.taps import Taps
from compresskit.distill.terms import Learned, Term, bind_match, bind_task
from compresskit.distill.trace import Trace, trace
from compresskit.errors import RecipeError, ShapeError, close_names


class Objective:
    """`loss, terms = objective(inputs, targets)`, inside `with objective:`.

    `loss` is what to call `.backward()` on: the weighted sum of the stage's terms. `terms` are their unweighted,
    detached values. Teacher and student each run once, and only as far as the terms read.

    Args:
        stage: Whose matches and tasks count.
        student: The model that learns.
        teachers: By name; a single one has the name "".
        learned: Where adapters and losses with parameters live.
        inputs: A batch's inputs, traced once to find shapes.
        steps: Steps of the stage, for its schedules.

    Raises:
        TapError: An address names no tensor.
        RecipeError: A match names no teacher, or a node cannot be built.
        ShapeError: No adapter can be built between two taps.
    """

    def __init__(
        self,
        stage: Stage,
        student: nn.Module,
        teachers: Mapping[str, nn.Module],
        learned: Learned,
        inputs: Any,
        steps: int,
    ) -> None:
        self.stage = stage
        self.steps = steps
        self.step = 0
        """Where in the stage the schedules stand."""
        specs = stage.terms
        points = {name: _teacher_point(spec, teachers) for name, spec in specs.items() if isinstance(spec, Match)}
        self.student_trace = trace(student, _unique(spec.student for spec in specs.values()), inputs, train=True)
        self.teacher_traces: dict[str, Trace] = {
            name: trace(teachers[name], _unique(tap for at, tap in points.values() if at == name), inputs, train=False)
            for name in _unique(at for at, _ in points.values())
        }
        self.terms: dict[str, Term] = {}
        for name, spec in specs.items():
            where = f"stage {stage.name!r}: {name}"
            if isinstance(spec, Match):
                self.terms[name] = bind_match(spec, points[name], self._shapes(spec, points[name]), learned, where)
            else:
                self.terms[name] = bind_task(spec, learned, where)
        self._teachers = [teachers[name] for name in self.teacher_traces]
        self._taps = Taps(student, self.student_trace.shapes, clone=self.student_trace.overwritten)
        self._teacher_taps = {
            name: Taps(teachers[name], seen.shapes, clone=seen.overwritten)
            for name, seen in self.teacher_traces.items()
        }

    def modules(self) -> list[nn.Module]:
        """Adapters and losses of this stage that may hold parameters."""
        return list(dict.fromkeys(module for term in self.terms.values() for module in term.modules()))

    def feeds(self) -> set[str]:
        """Names of the student's parameters that the stage's terms read."""
        return {name for names in self.student_trace.feeds.values() for name in names}

    def weights(self) -> dict[str, float]:
        """The weight of each term at the present step."""
        return {name: value_at(term.spec.weight, self.step, self.steps) for name, term in self.terms.items()}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(preserved(*self._teachers, buffers=True))
            for teacher in self._teachers:
                teacher.eval().requires_grad_(requires_grad=False)
            for taps in (self._taps, *self._teacher_taps.values()):
                stack.enter_context(taps)
            self._held = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._held.__exit__(*error)

    def __call__(self, inputs: Any, targets: Any = None) -> tuple[Tensor, dict[str, Tensor]]:
        """The stage's loss on one batch, and its unweighted terms."""
        with torch.no_grad():
            for taps in self._teacher_taps.values():
                taps.forward(inputs)
        self._taps.forward(inputs)
        with torch.autocast(inputs_device(inputs), enabled=False):
            values = {name: self._value(name, term, targets) for name, term in self.terms.items()}
        for taps in (self._taps, *self._teacher_taps.values()):
            taps.clear()
        weights = self.weights()
        total = torch.stack([value * weights[name] for name, value in values.items()]).sum()
        return total, {name: value.detach() for name, value in values.items()}

    def _value(self, name: str, term: Term, targets: Any) -> Tensor:
        student = self._taps[term.spec.student]
        other = targets if term.teacher is None else self._teacher_taps[term.teacher[0]][term.teacher[1]]
        try:
            return term.value(student, other, self.step, self.steps)
        except ShapeError as error:
            raise ShapeError(f"stage {self.stage.name!r}: {name}: {error}") from None

    def _shapes(self, match: Match, point: tuple[str, str]) -> tuple[torch.Size, torch.Size]:
        return self.student_trace.shapes[match.student], self.teacher_traces[point[0]].shapes[point[1]]


def inputs_device(inputs: Any) -> str:
    """The device type of the first tensor in a batch's inputs."""
    return next((tensor.device.type for tensor in tensors_in(inputs)), "cpu")


def tensors_in(value: Any) -> Iterable[Tensor]:
    """All tensors of a nested batch, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)


def _teacher_point(match: Match, teachers: Mapping[str, nn.Module]) -> tuple[str, str]:
    """Which teacher a match reads, and where in it."""
    if not teachers:
        raise RecipeError(f"{match.name} needs a teacher, and there is none")
    if "" in teachers:
        return "", match.teacher
    name, colon, address = match.teacher.partition(":")
    if colon and name in teachers:
        return name, address
    if len(teachers) == 1 and not colon:
        return next(iter(teachers)), match.teacher
    if colon:
        raise RecipeError(f"{match.name}: no teacher {name!r}{close_names(name, teachers)}")
    raise RecipeError(f"{match.name}: say which teacher, as in '{next(iter(teachers))}:{match.teacher}'")


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
