"""The plan: what each stage will do, found by tracing one batch, before anything is trained."""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from compresskit.distill.cache.cache import TeacherCache
from compresskit.distill.objective.extra_modules import ExtraModules
from compresskit.distill.objective.models import Models, Point
from compresskit.distill.objective.objective import Objective
from compresskit.distill.precision import Precision
from compresskit.distill.processes import Processes, launched
from compresskit.distill.spec.stage import Stage, steps_of
from compresskit.distill.taps.restore import preserved
from compresskit.distill.timing import Clock
from compresskit.distill.training.loop import StageLoop
from compresskit.distill.training.trainable import reached_by_previous_stage, train_only, trainable_names
from compresskit.errors import TapError
from compresskit.nested import tensors_in
from compresskit.randomness import own_randomness

SMALL_SHARE = 0.1
"""A teacher that takes less of a step than this is not worth a cache."""


@dataclass(frozen=True, slots=True)
class PlannedTerm:
    """One term of a stage, as it will be computed."""

    name: str
    weight: str
    student: str
    """Shape at the student's tap, `4x64x32x32`."""
    teacher: str
    """Shape at the teacher's tap; empty for a task."""
    adapter: str
    value: float
    """The unweighted loss on the traced batch, before any training."""


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """One stage, as it will run."""

    name: str
    length: str
    terms: tuple[PlannedTerm, ...]
    trains: tuple[str, ...]
    """Names of the student's parameters that train."""
    trained_elements: int
    adapter_elements: int
    unreached: tuple[str, ...]
    """Names of declared parameters that no term reaches: they will not change."""
    optimizer: str
    constants: Mapping[Point, Tensor] = field(default_factory=dict)
    """Shapes and types of the frozen teachers' tensors, which a cache would keep; without values."""
    teacher_share: float | None = None
    """Measured if a cache is asked for: the part of a step that frozen teachers take, with a backward taken to cost
    twice a forward."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """All stages, as they will run. `print(plan)` shows them."""

    student: str
    teachers: tuple[str, ...]
    parameters: int
    """Elements of all parameters of the student."""
    stages: tuple[PlannedStage, ...]

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(file=io.StringIO(), width=140, highlight=False)
        console.print(f"{' + '.join(self.teachers) or 'no teacher'} => {self.student} ({self.parameters:,} parameters)")
        for number, stage in enumerate(self.stages, start=1):
            console.print(f"\n{number}. {stage.name}: {stage.length}, {stage.optimizer}", markup=False)
            console.print(_summary(stage, self.parameters), markup=False)
            console.print(_table(stage.terms))
        return console.file.getvalue().rstrip()  # pyright: ignore[reportAttributeAccessIssue]


class TracedPlan(NamedTuple):
    """A plan, and of what kind of batch."""

    kind: tuple[Any, ...]
    plan: Plan


def batch_signature(inputs: Any, targets: Any) -> tuple[Any, ...]:
    """What two batches have in common with which every stage does the same: shapes and types."""
    return tuple((tensor.shape, tensor.dtype, tensor.device) for tensor in tensors_in((inputs, targets)))


def plan_stages(
    stages: Sequence[Stage],
    models: Models,
    seed: int,
    inputs: Any,
    targets: Any,
    *,
    timed: bool = False,
    validated: bool = False,
) -> Plan:
    """Bind every stage to one batch, compute its terms once, and change nothing.

    Args:
        stages: In their order.
        models: The student and its teachers.
        seed: Of adapters' initial values.
        inputs: The batch's.
        targets: The batch's.
        timed: Whether to measure what frozen teachers cost.
        validated: Whether the terms are computed in eval mode, too.

    Raises:
        CompressKitError: What training would stumble over: taps, shapes, nodes, globs.
    """
    student = models.student
    learned = ExtraModules.for_student(student, seed)
    planned = []
    for index, stage in enumerate(stages):
        objective = Objective(stage, models, learned, inputs, stage.steps or 1)
        learners = {name: models.module(name) for name in objective.learners}
        names = trainable_names(
            stage, models, objective.reached_parameters(), reached_by_previous_stage(stages, index, models, inputs)
        )
        trained = {name: p for name, p in models.parameters(objective.learners) if name in names}
        StageLoop(objective, trained, Precision(), Processes())  # can it be built?
        beside = [*learners.values(), *objective.modules()]
        same_modes = train_only(learners, stage, names)  # as in the first step; parts may run in training mode only
        with preserved(*beside, buffers=True), own_randomness(seed), same_modes, objective, torch.no_grad():
            _, values = objective(inputs, targets)
            share = _teacher_share(objective, inputs, targets) if timed and objective.forwards.constants() else None
            if validated:
                _check_eval(objective, beside, inputs, targets)
        found = {name: float(value) for name, value in values.items()}
        planned.append(_planned(stage, objective, trained, found, share))
    total = sum(parameter.numel() for parameter in student.parameters())
    teachers = tuple(type(teacher).__name__ for teacher in models.teachers.values())
    return Plan(type(student).__name__, teachers, total, tuple(planned))


def check_cache(plan: Plan, cache: TeacherCache, stages: Sequence[Stage], loader: Iterable[Any], count: int) -> None:
    """See before anything is trained that what a cache would keep fits, in every stage.

    Args:
        plan: Of the stages.
        cache: Which was asked for, and not left to `auto`.
        stages: Of the run.
        loader: The training data.
        count: Samples in the batch that was traced.

    Raises:
        RecipeError: As from `TeacherCache.check`.
    """
    batches = [steps_of(stage, loader) * stage.accumulate for stage in stages]
    for index, planned in enumerate(plan.stages):
        cache.check(planned.name, planned.constants, count, sum(batches[index:]))


def _planned(
    stage: Stage,
    objective: Objective,
    trained: Mapping[str, nn.Parameter],
    values: Mapping[str, float],
    teacher_share: float | None,
) -> PlannedStage:
    beside = [parameter for module in objective.modules() for parameter in module.parameters()]
    optimizer = stage.optimizer or {"_target_": "torch.optim.AdamW", "lr": 1e-3}
    return PlannedStage(
        name=stage.name,
        length=f"{stage.steps} steps" if stage.steps else f"{stage.epochs} epochs",
        terms=tuple(_planned_term(name, objective, values[name]) for name in objective.terms),
        trains=tuple(trained),
        trained_elements=sum(parameter.numel() for parameter in trained.values()),
        adapter_elements=sum(parameter.numel() for parameter in beside),
        unreached=tuple(sorted(trained.keys() - objective.reached_parameters())),
        optimizer=_node_text(optimizer),
        constants=objective.forwards.constants(),
        teacher_share=teacher_share,
        warnings=tuple(_warnings(stage, objective)),
    )


def _teacher_share(objective: Objective, inputs: Any, targets: Any) -> float:
    """The part of a step that the teachers take, over a few forwards after one to warm up."""
    clock = objective.forwards.clock = Clock()
    clock.tracing = True
    for _ in range(3):
        objective(inputs, targets)
    teacher, learner = clock.seconds["teacher"], clock.seconds["student"] + clock.seconds["losses"]
    return teacher / (teacher + 3 * learner)


def _check_eval(objective: Objective, learning: Iterable[nn.Module], inputs: Any, targets: Any) -> None:
    """See that the terms can be computed as for validation: some parts run in training mode only."""
    for module in learning:
        module.eval()
    try:
        objective(inputs, targets)
    except TapError as error:
        error.message += "\nThis is in eval mode, as for the validation data: leave that out, or the tap"
        raise


def _warnings(stage: Stage, objective: Objective) -> Iterator[str]:
    for name, term in objective.terms.items():
        if term.entry.relational and stage.accumulate > 1:
            yield f"{name} compares the samples of a batch with each other: with accumulate it sees one batch at a time"
        if term.entry.relational and (launched()[1] > 1 or not Processes.now().is_single):
            yield f"{name} compares the samples of a batch with each other: each process sees its own part of it"


def _planned_term(name: str, objective: Objective, value: float) -> PlannedTerm:
    term, (student, teacher) = objective.terms[name], objective.shapes(name)
    spec, adapter = term.spec, "" if term.glue is None else str(term.glue)
    weight = f"{spec.weight:g}" if isinstance(spec.weight, (int, float)) else _node_text(spec.weight)
    return PlannedTerm(name, weight, _sizes(student), _sizes(teacher), adapter, value)


def _sizes(shapes: Sequence[torch.Size]) -> str:
    return " + ".join("x".join(map(str, shape)) for shape in shapes)


def _summary(stage: PlannedStage, parameters: int) -> str:
    share = f"{stage.trained_elements:,} of {parameters:,} parameters"
    beside = f" and {stage.adapter_elements:,} in adapters" if stage.adapter_elements else ""
    text = f"   trains {share} ({len(stage.trains)} tensors){beside}"
    if stage.unreached:
        shown = ", ".join(stage.unreached[:4]) + (", …" if len(stage.unreached) > 4 else "")
        text += f"\n   no term reaches {len(stage.unreached)} of them: {shown}"
    if stage.teacher_share is not None:
        text += f"\n   {_cache_text(stage, stage.teacher_share)}"
    return text + "".join(f"\n   note: {warning}" for warning in stage.warnings)


def _cache_text(stage: PlannedStage, share: float) -> str:
    size = sum(kept.shape[1:].numel() * kept.dtype.itemsize for kept in stage.constants.values()) / 1000
    kept = f"its tensors take {size:.3g} KB a sample in fp32"
    if share < SMALL_SHARE:
        return f"cache: the teacher is the cheap part, about {share:.0%} of a step; {kept}, so leave it off"
    return f"cache: from the second pass on it saves up to {share:.0%} of a step, the teacher's part; {kept}"


def _table(terms: Sequence[PlannedTerm]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table("term", "weight", "student", "teacher", "adapter", "value now", box=box.SIMPLE_HEAD, pad_edge=False)
    for term in terms:
        name = term.name.replace("[", r"\[")
        table.add_row(name, term.weight, term.student, term.teacher, term.adapter, f"{term.value:.4g}")
    return table


def _node_text(node: Any) -> str:
    """A node, a schedule or a callable, in a few words."""
    if isinstance(node, Mapping) and "schedule" in node:
        shape = node["schedule"]
        if "start" not in node:
            return f"schedule {_node_text(shape)}"
        return f"{_node_text(shape)} {node['start']} → {node.get('end', node['start'])}"
    if isinstance(node, Mapping):
        options = ", ".join(f"{key}={value}" for key, value in node.items() if key != "_target_")
        return f"{str(node['_target_']).rpartition('.')[2]}({options})"
    return node if isinstance(node, str) else getattr(node, "__name__", type(node).__name__)
