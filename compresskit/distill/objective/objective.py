"""The loss of one stage: the weighted sum of its terms on a batch."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from compresskit.data import SampleId
from compresskit.distill.objective.extra_modules import ExtraModules
from compresskit.distill.objective.forwards import Forwards, TeacherCall
from compresskit.distill.objective.models import Models, Point
from compresskit.distill.objective.positions import Parts, Positions
from compresskit.distill.objective.terms import Term, bind_match, bind_task
from compresskit.distill.objective.trace import Traces
from compresskit.distill.spec.match import Match, Task
from compresskit.distill.spec.schedules import value_at
from compresskit.distill.spec.stage import Stage
from compresskit.distill.timing import Clock
from compresskit.errors import CompressKitError, TapError, within
from compresskit.nested import device_of

_UNCONNECTED = (
    "no gradient reaches a parameter from this tap: the tensor is an input, detached, of whole numbers, or computed "
    "under no_grad (as inside reentrant gradient checkpointing); tap another place"
)


class Objective:
    """`loss, terms = objective(inputs, targets)`, inside `with objective:`.

    `loss` is the weighted sum of the stage's terms; call `.backward()` on it. `terms` are their unweighted, detached
    values. Each model runs once, and only as far as the terms read.

    Args:
        stage: Stage whose matches and tasks count.
        models: The student and its teachers.
        extra_modules: Keeper of adapters and losses with parameters.
        inputs: Inputs of a batch.
        traces: Traces of the stage's models on that batch; see `trace_stages`.
        steps: Steps of the stage, for its schedules.
        cached_teachers: See `Forwards`.
        clock: Clock that adds up the seconds of each phase.
        compiled: Whether the models run through `torch.compile`.

    Raises:
        TapError: An address names no tensor, or, on the student's side, one that nothing trainable feeds.
        RecipeError: A match names no teacher, or a node cannot be built.
        ShapeError: No adapter can be built between two taps.
    """

    def __init__(
        self,
        stage: Stage,
        models: Models,
        extra_modules: ExtraModules,
        inputs: Any,
        traces: Traces,
        steps: int,
        *,
        cached_teachers: Callable[[Forwards], Mapping[str, TeacherCall]] | None = None,
        clock: Clock | None = None,
        compiled: bool = False,
    ) -> None:
        self.stage = stage
        self.models = models
        self.steps = steps
        self._extra_modules, self._traced_inputs = extra_modules, inputs
        self.step = 0
        """Current step of the stage, for the schedules."""
        self.points = {name: _points(term, models) for name, term in stage.terms.items()}
        """The points on the student's and on the teacher's side of each term."""
        self.learners = models.learners(stage.terms.values())
        """Names of the models that learn."""
        every_point = [point for sides in self.points.values() for side in sides for point in side]
        self.forwards = Forwards(
            stage,
            models,
            every_point,
            self.learners,
            extra_modules,
            inputs,
            traces,
            cached_teachers=cached_teachers,
            clock=clock,
            compiled=compiled,
        )
        for name, (student, _) in self.points.items():
            if not self.forwards.reached_parameters(student):
                raise TapError(f"stage {stage.name!r}: {name}: {_UNCONNECTED}")
        self.terms = {name: self._bind(name, spec) for name, spec in stage.terms.items()}
        self.terms_by_position = [name for name, term in self.terms.items() if _weighs_by_position(term)]
        """Names of the terms in which a batch of several weighs by its tokens, and not by its samples."""
        self.checks_positions = False
        """True to compare each forward with what `positions` counted before it."""
        fixed = all(isinstance(term.spec.weight, (int, float)) for term in self.terms.values())
        self._constant_weights = self._weights_now() if fixed else None
        self._weight_vector: tuple[tuple[float, ...], Tensor] = (), torch.empty(0)

    def modules(self) -> list[nn.Module]:
        """Return the adapters and losses of this stage that may hold parameters."""
        of_terms = [module for term in self.terms.values() for module in term.modules()]
        return list(dict.fromkeys([*self.forwards.modules(), *of_terms]))

    def extra_parameters(self) -> dict[str, nn.Parameter]:
        """Return the parameters of adapters and losses by name, which train beside the models."""
        modules = set(self.modules())
        return {
            f"{key}.{name}": parameter
            for key, module in self._extra_modules.modules.items()
            if module in modules
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }

    def reached_parameters(self) -> set[str]:
        """Return the names of the parameters that the stage's terms read."""
        return self.forwards.reached_parameters(point for student, _ in self.points.values() for point in student)

    def shapes(self, name: str) -> tuple[list[torch.Size], list[torch.Size]]:
        """Return the traced shapes on both sides of a term; a task has none on the second."""
        student, teacher = ([self.forwards.shape(point) for point in side] for side in self.points[name])
        return student, teacher

    def weights(self) -> dict[str, float]:
        """Return the weight of each term at the present step."""
        return self._weights_now() if self._constant_weights is None else self._constant_weights

    def __enter__(self) -> Self:
        self.forwards.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.forwards.__exit__(*error)

    def __call__(self, inputs: Any, targets: Any = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the stage's loss on one batch, and its unweighted terms."""
        values = self.values(inputs, targets)
        return self.total(values), {name: value.detach() for name, value in values.items()}

    def values(self, inputs: Any, targets: Any = None, samples: Sequence[SampleId] = ()) -> dict[str, Tensor]:
        """Return the unweighted terms on one batch, differentiable.

        Args:
            inputs: Inputs of the batch.
            targets: Targets of the batch.
            samples: Samples in the batch, where they are known.
        """
        self.forwards.run(inputs, samples)
        with self.forwards.clock.phase("losses"), _full_precision(inputs):
            values = self.values_at(self.forwards, inputs, targets)
            if self.checks_positions:
                self._check_positions(inputs, targets)
        self.forwards.clear()
        return values

    def values_at(self, tensors: Mapping[Point, Tensor], inputs: Any, targets: Any) -> dict[str, Tensor]:
        """Return the unweighted terms for the tensors at the stage's points."""
        return {name: self._value(name, term, tensors, inputs, targets) for name, term in self.terms.items()}

    def positions(self, inputs: Any, targets: Any, samples: int) -> dict[str, int]:
        """Return what a batch of so many samples weighs in the mean of each term: its positions that count.

        Terms whose batches weigh by their samples are not among them.
        """
        parts, counts = Parts(inputs, targets), {}
        for name in self.terms_by_position:
            term = self.terms[name]
            with within(f"stage {self.stage.name!r}: {name}"):
                target = term.mapped_target(targets) if isinstance(term.spec, Task) else None
                counts[name] = cast("Positions", term.positions).count(parts, target, samples)
        return counts

    def _check_positions(self, inputs: Any, targets: Any) -> None:
        parts = Parts(inputs, targets)
        for name in self.terms_by_position:
            shape = self.forwards[self.points[name][0][0]].shape
            with within(f"stage {self.stage.name!r}: {name}"):
                cast("Positions", self.terms[name].positions).check(shape, parts)

    def total(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of the terms."""
        return self.weighted_sum(values)[0]

    def weighted_sum(self, values: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the weighted sum of the terms, and the terms as one vector."""
        terms, weights = torch.stack(list(values.values())), tuple(self.weights().values())
        if weights != self._weight_vector[0] or self._weight_vector[1].dtype != terms.dtype:
            self._weight_vector = weights, terms.new_tensor(weights)  # kept: a GPU would wait for it in each step
        return terms @ self._weight_vector[1], terms

    def _bind(self, name: str, spec: Match | Task) -> Term:
        student, teacher = self.points[name]
        with within(f"stage {self.stage.name!r}: {name}"):
            if isinstance(spec, Match):
                return bind_match(spec, student, teacher, self.shapes(name), self._extra_modules, self._traced_inputs)
            return bind_task(spec, student, self.shapes(name)[0], self._extra_modules, self._traced_inputs)

    def _weights_now(self) -> dict[str, float]:
        return {name: value_at(term.spec.weight, self.step, self.steps) for name, term in self.terms.items()}

    def _value(self, name: str, term: Term, tensors: Mapping[Point, Tensor], inputs: Any, targets: Any) -> Tensor:
        student, teacher = self.points[name]
        constants = [tensors[point] for point in teacher]
        constants = [tensor.detach() if tensor.requires_grad else tensor for tensor in constants]
        try:  # not `with within(...)`: this runs in every step, for every term
            students = [tensors[point] for point in student]
            return term.value(students, constants, targets, self.step, self.steps, inputs)
        except CompressKitError as error:
            error.within(f"stage {self.stage.name!r}: {name}")
            error.about += (self.stage.name,)
            raise


def _weighs_by_position(term: Term) -> bool:
    return term.positions is not None and term.positions.decides_weight


def _full_precision(inputs: Any) -> AbstractContextManager[Any]:
    """Turn autocast off inside the block; where there is none, doing nothing is cheaper."""
    device = device_of(inputs).type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def _points(term: Match | Task, models: Models) -> tuple[tuple[Point, ...], tuple[Point, ...]]:
    return models.student_points(term), models.teacher_points(term) if isinstance(term, Match) else ()
