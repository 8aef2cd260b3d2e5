"""Match, Task and Splice: what is imitated, what is supervised, and what is replaced. Data, and nothing else."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from compresskit.distill.spec.address import parse_address, split_model
from compresskit.distill.spec.schedules import check_schedule, is_number
from compresskit.errors import RecipeError, TapError, within
from compresskit.losses.catalogue import check_options, is_schedule, resolve_loss
from compresskit.losses.entry import Entry


@dataclass(frozen=True, init=False)
class Match:
    """One unit of imitation: a tensor of the student should look like a tensor of the teacher.

    An address may name the model that it is in: `"big:layer3"` is in the teacher called big. Besides the teachers there
    are `student`; `previous`, the student as it was when the stage began; and `hybrid`, see `Splice`. The model on the
    student's side learns, whichever it is; the teacher's side is taken as a constant.

    Args:
        student: Address in the student; or several, for a loss that takes tuples.
        teacher: Address in the teacher; None means the same one.
        loss: A catalogue name, a dotted name or a callable `(student, teacher) -> scalar tensor`. One that takes a
            third positional argument `target` is given the batch's target, too.
        weight: Factor of the term in the stage's loss: a number, or a schedule over the stage's steps such as
            `{"schedule": "linear", "start": 1.0, "end": 0.0}`.
        adapter: `"auto"` builds what the shapes need, None builds nothing, a module or a node is used as it is. Several
            addresses get none.
        options: Options of the loss, each a value or a schedule.

    Raises:
        RecipeError: A field cannot be understood; the message starts with the field.
    """

    student: str | tuple[str, ...]
    teacher: str | tuple[str, ...]
    loss: str | Callable[..., Any]
    weight: float | Mapping[str, Any]
    adapter: str | nn.Module | Mapping[str, Any] | None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __init__(
        self,
        student: str | Sequence[str],
        teacher: str | Sequence[str] | None = None,
        loss: str | Callable[..., Any] = "mse",
        weight: float | Mapping[str, Any] = 1.0,
        adapter: str | nn.Module | Mapping[str, Any] | None = "auto",
        **options: Any,
    ) -> None:
        student = _checked_side(student, "student")
        teacher = _same_addresses(student) if teacher is None else _checked_side(teacher, "teacher")
        entry = _check_term(loss, weight, options)
        if entry.several and (isinstance(student, str) or isinstance(teacher, str)):
            raise RecipeError(
                f"student: {entry.name} compares several taps of each side; give a list, such as [a, b]",
                path=("student",),
            )
        _check_adapter(adapter)
        _set(self, student=student, teacher=teacher, loss=loss, weight=weight, adapter=adapter, options=options)

    @property
    def name(self) -> str:
        """What logs call this term."""
        sides = dict.fromkeys(" + ".join(addresses) for addresses in (self.students, self.teachers))
        return f"{loss_name(self.loss)}({', '.join(sides)})"

    @property
    def students(self) -> tuple[str, ...]:
        """The addresses on the student's side."""
        return (self.student,) if isinstance(self.student, str) else self.student

    @property
    def teachers(self) -> tuple[str, ...]:
        """The addresses on the teacher's side."""
        return (self.teacher,) if isinstance(self.teacher, str) else self.teacher


@dataclass(frozen=True, init=False)
class Task:
    """A supervised term: a tensor of the student against something computed from the batch's target.

    Args:
        loss: A catalogue name, a dotted name or a callable `(student, target) -> scalar tensor`.
        student: Address in the student; `"."` is its output. It may name another model, which then learns.
        target: None takes the batch's target as it is; a callable, or a node that builds one, maps it.
        weight: Factor of the term: a number or a schedule.
        options: Options of the loss, each a value or a schedule.

    Raises:
        RecipeError: A field cannot be understood; the message starts with the field.
    """

    loss: str | Callable[..., Any]
    student: str
    target: Callable[[Any], Any] | Mapping[str, Any] | None
    weight: float | Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    def __init__(
        self,
        loss: str | Callable[..., Any],
        student: str = ".",
        target: Callable[[Any], Any] | Mapping[str, Any] | None = None,
        weight: float | Mapping[str, Any] = 1.0,
        **options: Any,
    ) -> None:
        _check_address(student, "student")
        entry = _check_term(loss, weight, options)
        if entry.labels:
            raise RecipeError(
                f"loss: {entry.name} takes a teacher's tensor beside the target; use it in a match", path=("loss",)
            )
        node = isinstance(target, Mapping) and "_target_" in target
        if target is not None and not callable(target) and not node:
            raise RecipeError(
                f"target must be null, a callable or a node with _target_, got {target!r}", path=("target",)
            )
        _set(self, loss=loss, student=student, target=target, weight=weight, options=options)

    @property
    def name(self) -> str:
        """What logs call this term."""
        return f"{loss_name(self.loss)}({self.student}, target)"

    @property
    def students(self) -> tuple[str, ...]:
        """The address on the student's side."""
        return (self.student,)


@dataclass(frozen=True)
class Splice:
    """A tensor of one network put in the place of a tensor of another: the other, run so, is the `hybrid`.

    `Splice("layer2", into="teacher:layer2")` gives a teacher whose layer2 is the student's work: what lies behind it
    goes on from there. Matches and tasks read it as `hybrid:.`, or at any other address of the teacher, and train the
    student through it. The other way round, `Splice("teacher:layer1", into="layer1")` feeds the student's next block
    with the teacher's features. A tap at the very place reads what was there before it was replaced.

    Where the shapes differ an adapter is built, as for a match, and it is the same one: a match and a splice of one
    pair of addresses share their glue.

    Args:
        source: Address of the tensor that is put in.
        into: Address of the tensor that it replaces; without a model's name, the same address in the teacher, or in the
            student where `source` is a teacher's.
        adapter: `"auto"`, None, a module or a node.

    Raises:
        RecipeError: A field cannot be understood; the message starts with the field.

    Source: Wang, Zhao, Li & Tan, *Progressive Blockwise Knowledge Distillation for Neural Network Acceleration*, IJCAI
        2018 (student blocks in the teacher); Koratana et al., *LIT: Learned Intermediate Representation Training for
        Model Compression*, ICML 2019 (the teacher's features in the student).
    """

    source: str
    into: str | None = None
    adapter: str | nn.Module | Mapping[str, Any] | None = "auto"

    def __post_init__(self) -> None:
        _check_address(self.source, "source")
        if self.into is None:
            _set(self, into=split_model(self.source)[1])
        _check_address(self.into, "into")
        _check_adapter(self.adapter)


def changed(term: Any, **fields: Any) -> Any:
    """The match or task with some fields or options of another value."""
    own = {name: getattr(term, name) for name in term.__dataclass_fields__ if name != "options"}
    return type(term)(**{**own, **term.options, **fields})


def loss_name(loss: str | Callable[..., Any]) -> str:
    """What to call a loss in logs: its catalogue name, the last part of a dotted name, or the callable's own name."""
    if isinstance(loss, str):
        return loss.rpartition(".")[2]
    return getattr(loss, "__name__", type(loss).__name__)


def _set(frozen: Any, **fields: Any) -> None:
    for name, value in fields.items():
        object.__setattr__(frozen, name, value)


def _checked_side(value: Any, name: str) -> str | tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        _check_address(value, name)
        return value
    if not value:
        raise RecipeError(f"{name}: an empty list names no tensor", path=(name,))
    for address in value:
        _check_address(address, name)
    return tuple(value)


def _same_addresses(side: str | tuple[str, ...]) -> str | tuple[str, ...]:
    """The same addresses in the teacher, so without the name of the model on the student's side."""
    return split_model(side)[1] if isinstance(side, str) else tuple(split_model(address)[1] for address in side)


def _check_address(text: Any, name: str) -> None:
    try:
        parse_address(split_model(text)[1] if isinstance(text, str) else text)
    except TapError as error:
        raise RecipeError(f"{name}: {error}", path=(name,)) from None


def _check_term(loss: Any, weight: Any, options: Mapping[str, Any]) -> Entry:
    if not isinstance(loss, str) and not callable(loss):
        raise RecipeError(f"loss must be a name or a callable, got {loss!r}", path=("loss",))
    entry = resolve_loss(loss)
    with within(f"loss {loss_name(loss)!r}"):
        check_options(entry, options)
    for name, value in {"weight": weight, **options}.items():
        if is_schedule(value):
            check_schedule(value, name)
    if not is_schedule(weight) and not (is_number(weight) and weight >= 0):
        raise RecipeError(f"weight must be a number of at least 0 or a schedule, got {weight!r}", path=("weight",))
    return entry


def _check_adapter(adapter: Any) -> None:
    node = isinstance(adapter, nn.Module) or (isinstance(adapter, Mapping) and "_target_" in adapter)
    if adapter not in ("auto", None) and not node:
        raise RecipeError(
            f"adapter must be 'auto', null, a module or a node with _target_, got {adapter!r}", path=("adapter",)
        )
