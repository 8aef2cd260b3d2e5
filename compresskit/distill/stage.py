"""Match, Task and Stage: what is imitated, what is supervised, and one step of a curriculum. Data, and nothing else."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from compresskit.distill.address import parse_address
from compresskit.distill.schedules import check_schedule, is_number
from compresskit.errors import RecipeError, TapError
from compresskit.losses.catalogue import check_options, is_schedule, resolve_loss


@dataclass(frozen=True, init=False)
class Match:
    """One unit of imitation: a tensor of the student should look like a tensor of the teacher.

    Args:
        student: Address in the student.
        teacher: Address in the teacher; None means the same one. With several teachers: `"name:address"`.
        loss: A catalogue name, a dotted name or a callable `(student, teacher) -> scalar tensor`.
        weight: Factor of the term in the stage's loss: a number, or a schedule over the stage's steps such as
            `{"schedule": "linear", "start": 1.0, "end": 0.0}`.
        adapter: `"auto"` builds what the shapes need, None builds nothing, a module or a node is used as it is.
        options: Options of the loss, each a value or a schedule.

    Raises:
        RecipeError: A field cannot be understood; the message starts with the field.
    """

    student: str
    teacher: str
    loss: str | Callable[..., Any]
    weight: float | Mapping[str, Any]
    adapter: str | nn.Module | Mapping[str, Any] | None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __init__(
        self,
        student: str,
        teacher: str | None = None,
        loss: str | Callable[..., Any] = "mse",
        weight: float | Mapping[str, Any] = 1.0,
        adapter: str | nn.Module | Mapping[str, Any] | None = "auto",
        **options: Any,
    ) -> None:
        _check_address(student, "student")
        _check_address(student if teacher is None else teacher, "teacher")
        _check_term(loss, weight, options)
        node = isinstance(adapter, nn.Module) or (isinstance(adapter, Mapping) and "_target_" in adapter)
        if adapter not in ("auto", None) and not node:
            raise RecipeError(f"adapter must be 'auto', null, a module or a node with _target_, got {adapter!r}")
        _set(self, student=student, teacher=student if teacher is None else teacher, loss=loss, weight=weight)
        _set(self, adapter=adapter, options=options)

    @property
    def name(self) -> str:
        """What logs call this term."""
        same = self.teacher == self.student
        return (
            f"{loss_name(self.loss)}({self.student})"
            if same
            else f"{loss_name(self.loss)}({self.student}, {self.teacher})"
        )


@dataclass(frozen=True, init=False)
class Task:
    """A supervised term: a tensor of the student against something computed from the batch's target.

    Args:
        loss: A catalogue name, a dotted name or a callable `(student, target) -> scalar tensor`.
        student: Address in the student; `"."` is its output.
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
        _check_term(loss, weight, options)
        node = isinstance(target, Mapping) and "_target_" in target
        if target is not None and not callable(target) and not node:
            raise RecipeError(f"target must be null, a callable or a node with _target_, got {target!r}")
        _set(self, loss=loss, student=student, target=target, weight=weight, options=options)

    @property
    def name(self) -> str:
        """What logs call this term."""
        return f"{loss_name(self.loss)}({self.student}, target)"


@dataclass(frozen=True)
class Stage:
    """One step of a curriculum: some parameters learn for a while from some matches and tasks.

    Raises:
        RecipeError: A field cannot be understood; the message starts with the stage's name and the field.
    """

    name: str
    matches: Sequence[Match] = ()
    tasks: Sequence[Task] = ()
    train: str | Sequence[str] = ("*",)
    """Globs over the student's parameter names; or "upstream": all that feeds this stage's terms; or "between":
    all that lies past the points of the previous stage."""
    freeze: Sequence[str] = ()
    """Globs over the student's parameter names that stay as they are, whatever `train` says."""
    steps: int | None = None
    """Optimizer steps. Give either these or `epochs`."""
    epochs: int | None = None
    """Passes over the training data."""
    optimizer: Mapping[str, Any] | str | Callable[..., Any] | None = None
    """A node, a dotted name or a callable that takes parameter groups; None is AdamW at 1e-3. Fresh in each stage."""
    scheduler: Mapping[str, Any] | str | Callable[..., Any] | None = None
    """A node, a dotted name or a callable that takes the optimizer. Stepped after every optimizer step."""
    clip: float | None = None
    """Largest global gradient norm of everything that trains; larger ones are scaled down to it."""
    accumulate: int = 1
    """Batches an optimizer step. Each sample counts the same, also where an epoch ends in fewer or smaller batches."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise RecipeError(f"name must be text, got {self.name!r}")
        try:
            self._check()
        except RecipeError as error:
            raise RecipeError(f"stage {self.name!r}: {error}") from None

    def _check(self) -> None:
        _set(self, matches=_sequence(self.matches, Match, "matches"), tasks=_sequence(self.tasks, Task, "tasks"))
        if not self.matches and not self.tasks:
            raise RecipeError("it has neither matches nor tasks, so there is nothing to learn from")
        if self.train not in ("upstream", "between"):
            _set(self, train=_globs(self.train, "train"))
        _set(self, freeze=_globs(self.freeze, "freeze"))
        if (self.steps is None) == (self.epochs is None):
            both = "both steps and epochs" if self.steps is not None else "neither steps nor epochs"
            raise RecipeError(f"{both}; give one of them")
        _check_count(self.steps, "steps")
        _check_count(self.epochs, "epochs")
        _check_count(self.accumulate, "accumulate")
        if self.clip is not None and not (is_number(self.clip) and self.clip > 0):
            raise RecipeError(f"clip must be a number above 0, got {self.clip!r}")
        _check_factory(self.optimizer, "optimizer")
        _check_factory(self.scheduler, "scheduler")

    @property
    def terms(self) -> dict[str, Match | Task]:
        """Matches and tasks by their name in logs; a name that comes again gets a number."""
        named: dict[str, Match | Task] = {}
        for term in (*self.matches, *self.tasks):
            name, number = term.name, 1
            while name in named:
                number += 1
                name = f"{term.name}#{number}"
            named[name] = term
        return named


def loss_name(loss: str | Callable[..., Any]) -> str:
    """What to call a loss in logs: its catalogue name, the last part of a dotted name, or the callable's own name."""
    if isinstance(loss, str):
        return loss.rpartition(".")[2]
    return getattr(loss, "__name__", type(loss).__name__)


def _set(frozen: Any, **fields: Any) -> None:
    for name, value in fields.items():
        object.__setattr__(frozen, name, value)


def _check_address(text: Any, name: str) -> None:
    try:
        parse_address(text.partition(":")[2] or text if isinstance(text, str) else text)
    except TapError as error:
        raise RecipeError(f"{name}: {error}") from None


def _check_term(loss: Any, weight: Any, options: Mapping[str, Any]) -> None:
    if not isinstance(loss, str) and not callable(loss):
        raise RecipeError(f"loss must be a name or a callable, got {loss!r}")
    check_options(resolve_loss(loss), options, where=f"loss {loss_name(loss)!r}")
    for name, value in {"weight": weight, **options}.items():
        if is_schedule(value):
            check_schedule(value, name)
    if not is_schedule(weight) and not (is_number(weight) and weight >= 0):
        raise RecipeError(f"weight must be a number of at least 0 or a schedule, got {weight!r}")


def _check_count(value: Any, name: str) -> None:
    if value is not None and not (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        raise RecipeError(f"{name} must be a whole number of at least 1, got {value!r}")


def _check_factory(value: Any, name: str) -> None:
    node = isinstance(value, Mapping) and "_target_" in value
    if value is not None and not isinstance(value, str) and not node and not callable(value):
        raise RecipeError(f"{name} must be a node with _target_, a dotted name or a callable, got {value!r}")


def _sequence(value: Any, kind: type, name: str) -> tuple[Any, ...]:
    if (
        isinstance(value, (str, Mapping))
        or not isinstance(value, Sequence)
        or not all(isinstance(v, kind) for v in value)
    ):
        raise RecipeError(f"{name} must be a list of {kind.__name__} objects, got {value!r}")
    return tuple(value)


def _globs(value: Any, name: str) -> tuple[str, ...]:
    if isinstance(value, str) and name == "train":
        raise RecipeError(f"train must be a list of globs, 'upstream' or 'between', got {value!r}")
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(v, str) for v in value):
        raise RecipeError(f"{name} must be a list of globs over parameter names, got {value!r}")
    return tuple(value)
