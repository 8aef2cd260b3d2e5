"""The plan: what each stage will do, found by tracing one batch, before anything is trained."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from compresskit.data import own_randomness
from compresskit.distill.loop import StageLoop
from compresskit.distill.objective import Objective
from compresskit.distill.preserved import preserved
from compresskit.distill.stage import Stage
from compresskit.distill.terms import Learned, Term
from compresskit.distill.trained import declared_parameters, fed_before


@dataclass(frozen=True, slots=True)
class PlannedTerm:
    """One term of a stage, as it will be computed."""

    name: str
    weight: str
    student: tuple[int, ...]
    """Shape at the student's tap."""
    teacher: tuple[int, ...] | None
    """Shape at the teacher's tap; None for a task."""
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


def plan_stages(
    stages: Sequence[Stage],
    student: nn.Module,
    teachers: Mapping[str, nn.Module],
    seed: int,
    inputs: Any,
    targets: Any,
) -> Plan:
    """Bind every stage to one batch, compute its terms once, and change nothing.

    Raises:
        CompressKitError: What training would stumble over: taps, shapes, nodes, globs.
    """
    device = next((parameter.device for parameter in student.parameters()), torch.device("cpu"))
    learned = Learned(seed, device)
    planned = []
    for index, stage in enumerate(stages):
        objective = Objective(stage, student, teachers, learned, inputs, stage.steps or 1)
        names = declared_parameters(stage, student, objective.feeds(), fed_before(stages, index, student, inputs))
        StageLoop(objective, [p for name, p in student.named_parameters() if name in names], None)  # can it be built?
        with preserved(student, *objective.modules(), buffers=True), own_randomness(seed), objective, torch.no_grad():
            student.eval()
            _, values = objective(inputs, targets)
        planned.append(_planned(stage, objective, student, names, {name: float(v) for name, v in values.items()}))
    total = sum(parameter.numel() for parameter in student.parameters())
    return Plan(type(student).__name__, tuple(type(t).__name__ for t in teachers.values()), total, tuple(planned))


def _planned(
    stage: Stage, objective: Objective, student: nn.Module, names: set[str], values: Mapping[str, float]
) -> PlannedStage:
    sizes = {name: parameter.numel() for name, parameter in student.named_parameters()}
    beside = [parameter for module in objective.modules() for parameter in module.parameters()]
    optimizer = stage.optimizer or {"_target_": "torch.optim.AdamW", "lr": 1e-3}
    return PlannedStage(
        name=stage.name,
        length=f"{stage.steps} steps" if stage.steps else f"{stage.epochs} epochs",
        terms=tuple(_planned_term(name, term, objective, values[name]) for name, term in objective.terms.items()),
        trains=tuple(name for name in sizes if name in names),
        trained_elements=sum(sizes[name] for name in names),
        adapter_elements=sum(parameter.numel() for parameter in beside),
        unreached=tuple(sorted(names - objective.feeds())),
        optimizer=_node_text(optimizer),
    )


def _planned_term(name: str, term: Term, objective: Objective, value: float) -> PlannedTerm:
    spec = term.spec
    student = tuple(objective.student_trace.shapes[spec.student])
    teacher = None if term.teacher is None else tuple(objective.teacher_traces[term.teacher[0]].shapes[term.teacher[1]])
    adapter = "" if term.adapter is None else str(term.adapter).partition("\n")[0]
    weight = f"{spec.weight:g}" if isinstance(spec.weight, (int, float)) else _node_text(spec.weight)
    return PlannedTerm(name, weight, student, teacher, adapter, value)


def _summary(stage: PlannedStage, parameters: int) -> str:
    share = f"{stage.trained_elements:,} of {parameters:,} parameters"
    beside = f" and {stage.adapter_elements:,} in adapters" if stage.adapter_elements else ""
    text = f"   trains {share} ({len(stage.trains)} tensors){beside}"
    if stage.unreached:
        shown = ", ".join(stage.unreached[:4]) + (", …" if len(stage.unreached) > 4 else "")
        text += f"\n   no term reaches {len(stage.unreached)} of them: {shown}"
    return text


def _table(terms: Sequence[PlannedTerm]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table("term", "weight", "student", "teacher", "adapter", "value now", box=box.SIMPLE_HEAD, pad_edge=False)
    for term in terms:
        shapes = ("x".join(map(str, term.student)), "x".join(map(str, term.teacher or ())))
        table.add_row(term.name.replace("[", r"\["), term.weight, *shapes, term.adapter, f"{term.value:.4g}")
    return table


def _node_text(node: Any) -> str:
    """A node, a schedule or a callable, in a few words."""
    if isinstance(node, Mapping) and "schedule" in node:
        return f"{node['schedule']} {node['start']} → {node.get('end', node['start'])}"
    if isinstance(node, Mapping):
        options = ", ".join(f"{key}={value}" for key, value in node.items() if key != "_target_")
        return f"{str(node['_target_']).rpartition('.')[2]}({options})"
    return node if isinstance(node, str) else getattr(node, "__name__", type(node).__name__)
