"""The loss of one stage: a batch's inputs and targets in, one differentiable number and its terms out."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import torch
from torch import Tensor, nn

from compresskit.data import SampleId
from compresskit.distill.objective.extra_modules import ExtraModules
from compresskit.distill.objective.forwards import Forwards
from compresskit.distill.objective.models import Models, Point
from compresskit.distill.objective.terms import Term, bind_match, bind_task
from compresskit.distill.spec.match import Match
from compresskit.distill.spec.schedules import value_at
from compresskit.distill.spec.stage import Stage
from compresskit.errors import TapError, within
from compresskit.nested import inputs_device

_UNCONNECTED = (
    "no gradient reaches a parameter from this tap: the tensor is an input, detached, of whole numbers, or computed "
    "under no_grad (as inside reentrant gradient checkpointing); tap another place"
)


class Objective:
    """`loss, terms = objective(inputs, targets)`, inside `with objective:`.

    `loss` is what to call `.backward()` on: the weighted sum of the stage's terms. `terms` are their unweighted,
    detached values. Each model runs once, and only as far as the terms read.

    Args:
        stage: Whose matches and tasks count.
        models: The student and its teachers.
        learned: Where adapters and losses with parameters live.
        inputs: A batch's inputs, traced once to find shapes.
        steps: Steps of the stage, for its schedules.
        compiled: Whether the models run through `torch.compile`.

    Raises:
        TapError: An address names no tensor, or on the student's side one that nothing trainable feeds.
        RecipeError: A match names no teacher, or a node cannot be built.
        ShapeError: No adapter can be built between two taps.
    """

    def __init__(
        self, stage: Stage, models: Models, learned: ExtraModules, inputs: Any, steps: int, *, compiled: bool = False
    ) -> None:
        self.stage = stage
        self.models = models
        self.steps = steps
        self._learned = learned
        self.step = 0
        """Where in the stage the schedules stand."""
        self.points = {name: _sides(term, models) for name, term in stage.terms.items()}
        """The taps on the student's and on the teacher's side of each term."""
        self.learners = models.learners(stage.terms.values())
        """Names of the models that learn."""
        points = [point for sides in self.points.values() for side in sides for point in side]
        self.forwards = Forwards(stage, models, points, self.learners, learned, inputs, compiled=compiled)
        for name, (student, _) in self.points.items():
            if not self.forwards.reached_parameters(student):
                raise TapError(f"stage {stage.name!r}: {name}: {_UNCONNECTED}", about=(stage.name,))
        self.terms: dict[str, Term] = {}
        for name, spec in stage.terms.items():
            where, (student, teacher) = f"stage {stage.name!r}: {name}", self.points[name]
            with within(about=stage.name):
                if isinstance(spec, Match):
                    self.terms[name] = bind_match(spec, student, teacher, self.shapes(name), learned, where)
                else:
                    self.terms[name] = bind_task(spec, student[0], learned, where)
        fixed = all(isinstance(term.spec.weight, (int, float)) for term in self.terms.values())
        self._constant_weights = self._weights_now() if fixed else None
        self._weighing: tuple[tuple[float, ...], Tensor] = (), torch.empty(0)

    def modules(self) -> list[nn.Module]:
        """Adapters and losses of this stage that may hold parameters."""
        of_terms = [module for term in self.terms.values() for module in term.modules()]
        return list(dict.fromkeys([*self.forwards.modules(), *of_terms]))

    def extra_parameters(self) -> dict[str, nn.Parameter]:
        """What trains beside the models, by name: the parameters of adapters and losses."""
        modules = set(self.modules())
        return {
            f"{key}.{name}": parameter
            for key, module in self._learned.modules.items()
            if module in modules
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }

    def reached_parameters(self) -> set[str]:
        """Names of the parameters that the stage's terms read."""
        return self.forwards.reached_parameters(point for student, _ in self.points.values() for point in student)

    def shapes(self, name: str) -> tuple[list[torch.Size], list[torch.Size]]:
        """The traced shapes on both sides of a term; a task has none on the second."""
        student, teacher = ([self.forwards.shape(point) for point in side] for side in self.points[name])
        return student, teacher

    def weights(self) -> dict[str, float]:
        """The weight of each term at the present step."""
        return self._weights_now() if self._constant_weights is None else self._constant_weights

    def _weights_now(self) -> dict[str, float]:
        return {name: value_at(term.spec.weight, self.step, self.steps) for name, term in self.terms.items()}

    def __enter__(self) -> Self:
        self.forwards.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.forwards.__exit__(*error)

    def __call__(self, inputs: Any, targets: Any = None) -> tuple[Tensor, dict[str, Tensor]]:
        """The stage's loss on one batch, and its unweighted terms."""
        values = self.values(inputs, targets)
        return self.total(values), {name: value.detach() for name, value in values.items()}

    def values(self, inputs: Any, targets: Any = None, samples: Sequence[SampleId] = ()) -> dict[str, Tensor]:
        """The unweighted terms on one batch, differentiable; `samples` tells which these are, where that is known."""
        self.forwards.run(inputs, samples)
        with self.forwards.clock.phase("losses"), _full_precision(inputs):
            values = {name: self._value(name, term, targets) for name, term in self.terms.items()}
        self.forwards.clear()
        return values

    def total(self, values: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of the terms."""
        return self.weighted_sum(values)[0]

    def weighted_sum(self, values: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The weighted sum of the terms, and the terms as one vector."""
        terms, weights = torch.stack(list(values.values())), tuple(self.weights().values())
        if weights != self._weighing[0] or self._weighing[1].dtype != terms.dtype:
            self._weighing = weights, terms.new_tensor(weights)  # kept: a GPU would wait for it in each step
        return terms @ self._weighing[1], terms

    def _value(self, name: str, term: Term, targets: Any) -> Tensor:
        student, teacher = self.points[name]
        constants = [self.forwards[point] for point in teacher]
        constants = [tensor.detach() if tensor.requires_grad else tensor for tensor in constants]
        with within(f"stage {self.stage.name!r}: {name}", about=self.stage.name):
            return term.value([self.forwards[point] for point in student], constants, targets, self.step, self.steps)


def _full_precision(inputs: Any) -> AbstractContextManager[Any]:
    """Inside, there is no autocast; to leave out what is not there is cheaper."""
    device = inputs_device(inputs)
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def _sides(term: Any, models: Models) -> tuple[tuple[Point, ...], tuple[Point, ...]]:
    return models.student_points(term), models.teacher_points(term) if isinstance(term, Match) else ()
