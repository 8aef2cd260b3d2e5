"""The plan of a run as data, and as text for people."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from compresskit.distill.objective.models import Point
from compresskit.inheritance import InheritanceReport

SMALL_SHARE = 0.1
"""Share of a step below which a teacher is not worth a cache."""


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
    """Share of a step that frozen teachers take, measured if there is a cache; a backward counts as two forwards."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """The stages, as they will run. `print(plan)` shows them."""

    student: str
    teachers: tuple[str, ...]
    parameters: int
    """Elements of all parameters of the student."""
    stages: tuple[PlannedStage, ...]
    inherited: InheritanceReport | None = None
    """The student's initial weights from a teacher; `print(plan.inherited)` shows each tensor."""
    inherited_from: str = ""
    """The name of that teacher."""

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(file=io.StringIO(), width=140, highlight=False)
        console.print(f"{' + '.join(self.teachers) or 'no teacher'} => {self.student} ({self.parameters:,} parameters)")
        if self.inherited is not None:
            console.print(f"weights from {self.inherited_from}: {self.inherited.summary()}", markup=False)
        for number, stage in enumerate(self.stages, start=1):
            console.print(f"\n{number}. {stage.name}: {stage.length}, {stage.optimizer}", markup=False)
            console.print(_summary(stage, self.parameters), markup=False)
            console.print(_table(stage.terms))
        return console.file.getvalue().rstrip()  # pyright: ignore[reportAttributeAccessIssue]


def node_text(node: Any) -> str:
    """Return a node, a schedule or a callable in a few words."""
    if isinstance(node, Mapping) and "schedule" in node:
        shape = node["schedule"]
        if "start" not in node:
            return f"schedule {node_text(shape)}"
        return f"{node_text(shape)} {node['start']} → {node.get('end', node['start'])}"
    if isinstance(node, Mapping):
        options = ", ".join(f"{key}={value}" for key, value in node.items() if key != "_target_")
        return f"{str(node['_target_']).rpartition('.')[2]}({options})"
    return node if isinstance(node, str) else getattr(node, "__name__", type(node).__name__)


def _summary(stage: PlannedStage, parameters: int) -> str:
    share = f"{stage.trained_elements:,} of {parameters:,} parameters"
    adapters = f" and {stage.adapter_elements:,} in adapters" if stage.adapter_elements else ""
    text = f"   trains {share} ({len(stage.trains)} tensors){adapters}"
    if stage.unreached:
        names = ", ".join(stage.unreached[:4]) + (", …" if len(stage.unreached) > 4 else "")
        text += f"\n   no term reaches {len(stage.unreached)} of them: {names}"
    if stage.teacher_share is not None:
        text += f"\n   {_cache_text(stage, stage.teacher_share)}"
    return text + "".join(f"\n   note: {warning}" for warning in stage.warnings)


def _cache_text(stage: PlannedStage, share: float) -> str:
    kilobytes = sum(tensor.shape[1:].numel() * tensor.dtype.itemsize for tensor in stage.constants.values()) / 1000
    size = f"its tensors take {kilobytes:.3g} KB a sample in fp32"
    if share < SMALL_SHARE:
        return f"cache: the teacher is the cheap part, about {share:.0%} of a step; {size}, so leave it off"
    return f"cache: from the second pass on it saves up to {share:.0%} of a step, the teacher's part; {size}"


def _table(terms: Sequence[PlannedTerm]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table("term", "weight", "student", "teacher", "adapter", "value now", box=box.SIMPLE_HEAD, pad_edge=False)
    for term in terms:
        name = term.name.replace("[", r"\[")
        table.add_row(name, term.weight, term.student, term.teacher, term.adapter, f"{term.value:.4g}")
    return table
