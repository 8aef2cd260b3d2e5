"""Every stage bound to one batch before anything is trained: the plan that users print, and the look-ahead of `fit`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from compresskit.distill.cache.cache import TeacherCache
from compresskit.distill.objective.extra_modules import ExtraModules
from compresskit.distill.objective.models import Models, Point
from compresskit.distill.objective.objective import Objective
from compresskit.distill.objective.trace import Traces, batch_signature, trace_stages
from compresskit.distill.processes import Processes, launched
from compresskit.distill.session.plan_text import Plan, PlannedStage, PlannedTerm, node_text
from compresskit.distill.spec.address import STUDENT
from compresskit.distill.spec.stage import DEFAULT_OPTIMIZER, Stage, steps_of
from compresskit.distill.training.bound_stage import BoundStage
from compresskit.distill.training.ema import moving_average
from compresskit.distill.training.optimizers import make_optimizer, make_scheduler
from compresskit.errors import TapError
from compresskit.randomness import own_randomness
from compresskit.restore import preserve_state

Constants = Mapping[Point, Tensor]
"""Shapes and types of the frozen teachers' tensors in one stage; without values."""


class TracedPlan(NamedTuple):
    """A plan with the traces that it rests on, for a run on a batch with the same signature."""

    signature: tuple[Any, ...]
    """`batch_signature` of the models, the inputs and the targets."""
    traces: Traces
    plan: Plan


def plan_stages(
    stages: Sequence[Stage], models: Models, seed: int, inputs: Any, targets: Any, *, timed: bool = False
) -> TracedPlan:
    """Bind every stage to one batch and compute its terms once, as in its first step. Nothing is changed.

    Args:
        stages: Stages, in their order.
        models: The student and its teachers.
        seed: Seed of adapters' initial values.
        inputs: Inputs of the batch.
        targets: Targets of the batch.
        timed: Whether to measure the time of frozen teachers.

    Raises:
        CompressKitError: Training would fail on this: taps, shapes, nodes, globs.
    """
    traces = trace_stages(stages, models, inputs)
    planned = []
    for bound in _bound(stages, models, seed, inputs, traces):
        share = None
        with (
            preserve_state(*bound.modules.values(), buffers=True),
            own_randomness(seed),
            bound.training(),
            torch.no_grad(),
        ):
            _, terms = bound.objective(inputs, targets)
            if timed and bound.objective.forwards.constants():
                share = _teacher_share(bound.objective, inputs, targets)
        planned.append(_planned(bound, {name: float(value) for name, value in terms.items()}, share))
    total = sum(parameter.numel() for parameter in models.student.parameters())
    teachers = tuple(type(teacher).__name__ for teacher in models.teachers.values())
    plan = Plan(type(models.student).__name__, teachers, total, tuple(planned))
    return TracedPlan(batch_signature(models, inputs, targets), traces, plan)


def look_ahead(
    stages: Sequence[Stage], models: Models, seed: int, inputs: Any, targets: Any, *, validated: bool
) -> tuple[Traces, list[Constants]]:
    """Find mistakes in every stage before the first one trains, from one forward of each model.

    Args:
        stages: Stages, in their order.
        models: The student and its teachers.
        seed: Seed of adapters' initial values.
        inputs: Inputs of a batch.
        targets: Targets of the batch.
        validated: Whether the terms are computed in eval mode, too, for validation data.

    Returns:
        The traces, for the objectives of the run, and each stage's constants, for the cache.

    Raises:
        CompressKitError: Training would fail on this: taps, shapes, nodes, globs.
    """
    traces = trace_stages(stages, models, inputs, keep_tensors=True)
    evaluated = _trace_in_eval_mode(stages, models, inputs) if validated else None
    constants = []
    for bound in _bound(stages, models, seed, inputs, traces):
        with preserve_state(*bound.modules.values(), buffers=True), own_randomness(seed), torch.no_grad():
            if bound.stage.splices:
                _run_once(bound, inputs, targets, validated=validated)
            else:
                tensors = traces.points(bound.learners)
                bound.objective.values_at(tensors, inputs, targets)
                if evaluated is not None:
                    bound.objective.values_at({**tensors, **evaluated.points(bound.learners)}, inputs, targets)
        constants.append(bound.objective.forwards.constants())
    traces.release()
    return traces, constants


def check_cache(
    constants: Sequence[Constants], cache: TeacherCache, stages: Sequence[Stage], loader: Iterable[Any], count: int
) -> None:
    """Check that what a cache would keep fits, in every stage.

    Args:
        constants: Constants of each stage.
        cache: Cache that was asked for, and not left to `auto`.
        stages: Stages of the run.
        loader: The training data.
        count: Number of samples in the batch that was traced.

    Raises:
        RecipeError: As from `TeacherCache.check`.
    """
    batches = [steps_of(stage, loader) * stage.accumulate for stage in stages]
    for index, stage in enumerate(stages):
        cache.check(stage.name, constants[index], count, sum(batches[index:]))


def _bound(stages: Sequence[Stage], models: Models, seed: int, inputs: Any, traces: Traces) -> Iterator[BoundStage]:
    """Yield every stage, bound, after its optimizer, scheduler and averaged weights could be built."""
    extra_modules = ExtraModules.for_student(models.student, seed)
    for index, stage in enumerate(stages):
        bound = BoundStage(stages, index, models, extra_modules, inputs, traces)
        optimizer = make_optimizer(stage, bound.trainable, bound.extra_parameters, models.parameter_names())
        make_scheduler(stage, optimizer, bound.objective.steps)
        if stage.ema is not None and STUDENT in bound.learners:
            moving_average(models.student, stage.ema)
        yield bound


def _run_once(bound: BoundStage, inputs: Any, targets: Any, *, validated: bool) -> None:
    """Compute the terms of a stage with splices: its hybrid depends on what the other models say."""
    with bound.training():
        bound.objective(inputs, targets)
        if validated:
            for module in bound.modules.values():
                module.eval()
            with _in_eval_mode():
                bound.objective(inputs, targets)


def _trace_in_eval_mode(stages: Sequence[Stage], models: Models, inputs: Any) -> Traces:
    with _in_eval_mode():
        return trace_stages(stages, models, inputs, training=False, keep_tensors=True)


@contextmanager
def _in_eval_mode() -> Iterator[None]:
    """Say of a TapError that it happened in eval mode: some parts run in training mode only."""
    try:
        yield
    except TapError as error:
        raise TapError(
            f"{error}\nThis is in eval mode, as for the validation data: leave that out, or the tap"
        ) from None


def _planned(bound: BoundStage, values: Mapping[str, float], teacher_share: float | None) -> PlannedStage:
    stage, objective = bound.stage, bound.objective
    extra = [parameter for module in objective.modules() for parameter in module.parameters()]
    return PlannedStage(
        name=stage.name,
        length=f"{stage.steps} steps" if stage.steps else f"{stage.epochs} epochs",
        terms=tuple(_planned_term(name, objective, values[name]) for name in objective.terms),
        trains=tuple(bound.trainable),
        trained_elements=sum(parameter.numel() for parameter in bound.trainable.values()),
        adapter_elements=sum(parameter.numel() for parameter in extra),
        unreached=tuple(sorted(bound.unreached)),
        optimizer=node_text(stage.optimizer or DEFAULT_OPTIMIZER),
        constants=objective.forwards.constants(),
        teacher_share=teacher_share,
        warnings=tuple(_warnings(stage, objective)),
    )


def _planned_term(name: str, objective: Objective, value: float) -> PlannedTerm:
    term, (student, teacher) = objective.terms[name], objective.shapes(name)
    spec, adapter = term.spec, str(term.adapter)
    weight = f"{spec.weight:g}" if isinstance(spec.weight, (int, float)) else node_text(spec.weight)
    return PlannedTerm(name, weight, _sizes(student), _sizes(teacher), adapter, value)


def _sizes(shapes: Sequence[torch.Size]) -> str:
    return " + ".join("x".join(map(str, shape)) for shape in shapes)


def _teacher_share(objective: Objective, inputs: Any, targets: Any) -> float:
    """Return the share of a step that the teachers take, over a few forwards after one to warm up."""
    clock = objective.forwards.clock
    clock.seconds |= dict.fromkeys(clock.seconds, 0.0)
    clock.profiling = True
    for _ in range(3):
        objective(inputs, targets)
    teacher, learner = clock.seconds["teacher"], clock.seconds["student"] + clock.seconds["losses"]
    return teacher / (teacher + 3 * learner)


def _warnings(stage: Stage, objective: Objective) -> Iterator[str]:
    for name, term in objective.terms.items():
        if term.entry.relational and stage.accumulate > 1:
            yield f"{name} compares the samples of a batch with each other: with accumulate it sees one batch at a time"
        if term.entry.relational and (launched()[1] > 1 or not Processes.now().is_single):
            yield f"{name} compares the samples of a batch with each other: each process sees its own part of it"
