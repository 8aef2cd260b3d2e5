"""Match, Task and Splice: a tensor to imitate, a tensor to supervise, a tensor to replace. Plain data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from compresskit.distill.spec.address import parse_address, split_model
from compresskit.distill.spec.classes import ClassIndex, parse_classes
from compresskit.distill.spec.describe import OMIT_NONE
from compresskit.distill.spec.mask import check_mask
from compresskit.distill.spec.schedules import check_schedule, is_number
from compresskit.errors import RecipeError, TapError, at, within
from compresskit.losses.catalogue import check_options, is_schedule, resolve_loss
from compresskit.losses.entry import Entry
from compresskit.signature import option_names

Mask = str | Callable[[Any], Any] | Mapping[str, Any] | None
"""Positions that count: see `Match`."""


@dataclass(frozen=True, init=False)
class Match:
    """One unit of imitation: a tensor of the student should look like a tensor of the teacher.

    An address may name the model that it is in: `"big:layer3"` is in the teacher called big. Besides the teachers there
    are `student`; `previous`, a frozen copy of the student from the stage's beginning; and `hybrid`, see `Splice`. The
    model on the student's side learns, whichever it is; the teacher's side is a constant.

    Args:
        student: Address in the student; or several, for a loss that takes tuples. A star stands for one part of a
            module's path: `"blocks.*"` is one match for each block.
        teacher: Address in the teacher; None means the same as in the student.
        loss: A catalogue name, a dotted name or a callable `(student, teacher) -> scalar tensor`. A callable with a
            third positional argument `target` also gets the batch's target.
        weight: Factor of the term in the stage's loss: a number, or a schedule over the stage's steps such as
            `{"schedule": "linear", "start": 1.0, "end": 0.0}`.
        adapter: `"auto"` builds the layers that the shapes need, None builds nothing, a module or a node is used as it
            is. Several addresses get no adapter. Between logits `"auto"` builds nothing that changes their classes.
        classes: The teacher's classes that a loss on logits compares, in the student's order: a slice, its text such as
            ":10", or a list of indices. None compares all.
        mask: Positions that count, for a loss that compares position by position: a key of the batch's inputs or
            targets with slices and a comparison, such as `"attention_mask"` or `"labels[:, 1:] != -100"`, a callable of
            the batch, or a node that builds one. The mean is then over the kept positions of a whole optimizer step.
        options: Options of the loss, each a value or a schedule.

    Raises:
        RecipeError: A field cannot be understood; the message starts with the field.
    """

    student: str | tuple[str, ...]
    teacher: str | tuple[str, ...]
    loss: str | Callable[..., Any]
    weight: float | Mapping[str, Any]
    adapter: str | nn.Module | Mapping[str, Any] | None
    classes: ClassIndex | None = field(default=None, metadata=OMIT_NONE)
    mask: Mask = field(default=None, metadata=OMIT_NONE)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __init__(
        self,
        student: str | Sequence[str],
        teacher: str | Sequence[str] | None = None,
        loss: str | Callable[..., Any] = "mse",
        weight: float | Mapping[str, Any] = 1.0,
        adapter: str | nn.Module | Mapping[str, Any] | None = "auto",
        classes: slice | str | Sequence[int] | None = None,
        mask: Mask = None,
        **options: Any,
    ) -> None:
        student = _check_side(student, "student")
        teacher = _same_addresses(student) if teacher is None else _check_side(teacher, "teacher")
        entry = _check_term(loss, weight, options, mask)
        if entry.several and (isinstance(student, str) or isinstance(teacher, str)):
            raise RecipeError(
                f"student: {entry.name} compares several taps of each side; give a list, such as [a, b]",
                path=("student",),
            )
        _check_adapter(adapter)
        check_mask(mask)
        if classes is not None and not entry.logits:
            raise RecipeError(
                f"classes: {entry.name} is no loss on logits; choose by the teacher's address, as in '.@out[:, :10]'",
                path=("classes",),
            )
        _set(
            self,
            student=student,
            teacher=teacher,
            loss=loss,
            weight=weight,
            adapter=adapter,
            classes=None if classes is None else parse_classes(classes),
            mask=mask,
            options=options,
        )

    @property
    def name(self) -> str:
        """The name of this term in logs."""
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
    """A supervised term: a tensor of the student compared with the batch's target or a function of it.

    Args:
        loss: A catalogue name, a dotted name or a callable `(student, target) -> scalar tensor`.
        student: Address in the student; `"."` is its output. It may name another model, which then learns. Several
            addresses are for a loss that takes a tuple of tensors.
        target: Function of the batch's target, or a node that builds one; None takes the target as it is.
        weight: Factor of the term: a number or a schedule.
        mask: Positions that count, as for a match.
        options: Options of the loss, each a value or a schedule.

    Raises:
        RecipeError: A field cannot be understood; the message starts with the field.
    """

    loss: str | Callable[..., Any]
    student: str | tuple[str, ...]
    target: Callable[[Any], Any] | Mapping[str, Any] | None
    weight: float | Mapping[str, Any]
    mask: Mask = field(default=None, metadata=OMIT_NONE)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __init__(
        self,
        loss: str | Callable[..., Any],
        student: str | Sequence[str] = ".",
        target: Callable[[Any], Any] | Mapping[str, Any] | None = None,
        weight: float | Mapping[str, Any] = 1.0,
        mask: Mask = None,
        **options: Any,
    ) -> None:
        student = _check_side(student, "student")
        check_mask(mask)
        entry = _check_term(loss, weight, options, mask)
        if not isinstance(student, str) and entry.by_position is not None:
            raise RecipeError(
                f"student: {entry.name} compares one tap with a target, got {len(student)}", path=("student",)
            )
        if entry.labels:
            raise RecipeError(
                f"loss: {entry.name} takes a teacher's tensor beside the target; use it in a match", path=("loss",)
            )
        node = isinstance(target, Mapping) and "_target_" in target
        if target is not None and not callable(target) and not node:
            raise RecipeError(
                f"target must be null, a callable or a node with _target_, got {target!r}", path=("target",)
            )
        _set(self, loss=loss, student=student, target=target, weight=weight, mask=mask, options=options)

    @property
    def name(self) -> str:
        """The name of this term in logs."""
        return f"{loss_name(self.loss)}({' + '.join(self.students)}, target)"

    @property
    def students(self) -> tuple[str, ...]:
        """The addresses on the student's side."""
        return (self.student,) if isinstance(self.student, str) else self.student


@dataclass(frozen=True)
class Splice:
    """A tensor of one network in the place of a tensor of another: the second network, run like this, is the `hybrid`.

    `Splice("layer2", into="teacher:layer2")` gives a teacher whose layer2 is computed by the student: the layers behind
    it go on from there. Matches and tasks read it as `hybrid:.`, or at any other address of the teacher, and train the
    student through it. The other way round, `Splice("teacher:layer1", into="layer1")` feeds the student's next block
    with the teacher's features. A tap at the same address reads the tensor from before the replacement.

    If the shapes differ, an adapter is built as for a match. A match and a splice of one pair of addresses share it.

    Args:
        source: Address of the tensor that is put in.
        into: Address of the tensor that is replaced. An address without a model's name is in the teacher or, if
            `source` is in a teacher, in the student. None means the same address as `source`.
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


def replace_fields(term: Any, **fields: Any) -> Any:
    """Return a copy of a match or task with other values of some fields or options."""
    own = {name: getattr(term, name) for name in term.__dataclass_fields__ if name != "options"}
    return type(term)(**{**own, **term.options, **fields})


def loss_name(loss: str | Callable[..., Any]) -> str:
    """Return the name of a loss in logs: its catalogue name, the last part of a dotted name, or the callable's name."""
    if isinstance(loss, str):
        return loss.rpartition(".")[2]
    return getattr(loss, "__name__", type(loss).__name__)


def _set(frozen: Any, **fields: Any) -> None:
    for name, value in fields.items():
        object.__setattr__(frozen, name, value)


def _check_side(value: Any, name: str) -> str | tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        _check_address(value, name)
        return value
    if not value:
        raise RecipeError(f"{name}: an empty list names no tensor", path=(name,))
    for address in value:
        _check_address(address, name)
    return tuple(value)


def _same_addresses(side: str | tuple[str, ...]) -> str | tuple[str, ...]:
    """Return the same addresses in the teacher: without the name of the model on the student's side."""
    return split_model(side)[1] if isinstance(side, str) else tuple(split_model(address)[1] for address in side)


def _check_address(text: Any, name: str) -> None:
    try:
        parse_address(split_model(text)[1] if isinstance(text, str) else text)
    except TapError as error:
        raise RecipeError(f"{name}: {error}", path=(name,)) from None


def takes_mask(entry: Entry) -> bool:
    """Return whether a function takes a mask itself; any other loss gets the kept positions as rows."""
    return not entry.built and "mask" in (option_names(entry.function, positional=entry.positional) or ())


def _check_term(loss: Any, weight: Any, options: Mapping[str, Any], mask: Any) -> Entry:
    if not isinstance(loss, str) and not callable(loss):
        raise RecipeError(f"loss must be a name or a callable, got {loss!r}", path=("loss",))
    with at("loss"):
        entry = resolve_loss(loss)
    with within(f"loss {loss_name(loss)!r}"):
        check_options(entry, {**options, "mask": ...} if mask is not None and takes_mask(entry) else options)
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
