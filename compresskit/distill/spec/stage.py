"""Stage: one step of a curriculum. Plain data."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from compresskit.distill.spec.address import HYBRID, split_model
from compresskit.distill.spec.goal import parse_goal
from compresskit.distill.spec.match import Match, Splice, Task
from compresskit.distill.spec.misplaced import checked_init
from compresskit.distill.spec.schedules import is_number
from compresskit.errors import RecipeError, close_names, within

DEFAULT_OPTIMIZER = {"_target_": "torch.optim.AdamW", "lr": 1e-3}
"""Optimizer of a stage that names none."""


@checked_init
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
    """Globs over the names of the parameters that may learn: the student's, and `NAME:PARAMETER` of other models on the
    student's side of a term. Or "upstream": all parameters that feed this stage's terms; or "between": those of them
    that feed none of the previous stage's."""
    freeze: Sequence[str] = ()
    """Globs over the names of parameters that do not change, whatever `train` says."""
    steps: int | None = None
    """Optimizer steps. Give either `steps` or `epochs`."""
    epochs: int | None = None
    """Passes over the training data."""
    optimizer: Mapping[str, Any] | str | Callable[..., Any] | None = None
    """A node, a dotted name or a callable that takes parameter groups; None is AdamW at 1e-3. New in each stage."""
    scheduler: Mapping[str, Any] | str | Callable[..., Any] | None = None
    """A node, a dotted name or a callable that takes the optimizer. Stepped after every optimizer step."""
    clip: float | None = None
    """Largest global gradient norm over all parameters that train; larger gradients are scaled down to it."""
    accumulate: int = 1
    """Batches an optimizer step. Each sample counts the same, also when an epoch ends in fewer or smaller batches."""
    ema: float | None = None
    """Decay of an exponential moving average of the student's weights, such as 0.999. The average is evaluated and,
    after the last stage, returned by the run, while the student itself trains on. If only another model learns, there
    is no average."""
    every: int | None = None
    """Steps between two evaluations inside the stage; None evaluates at its end only."""
    best: str | None = None
    """`"max METRIC"` or `"min METRIC"`: at the stage's end everything that learned in it, adapters included, is
    restored to its best evaluation. METRIC is one of `evaluate`'s, or over the validation data the name of a term or
    `loss`."""
    until: Mapping[str, Any] | None = None
    """`{"plateau": "max METRIC", "patience": 3, "min_delta": 0.0}`: end the stage before its `steps`, once `patience`
    evaluations in a row brought no progress of more than `min_delta`."""
    groups: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Options of the optimizer for some parameters, by glob; the first glob that matches counts:
    `{"head.*": {"lr": 1e-4}}`. Adapters and losses with parameters are called `adapter:…` and `loss:…`."""
    splices: Sequence[Splice] = ()
    """The splices that make the `hybrid` of this stage."""
    gradient_norms: int | None = None
    """Steps between two logs of each term's own gradient norm. Such a step costs one more backward pass a term."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise RecipeError(f"name must be text, got {self.name!r}", path=("name",))
        with within(f"stage {self.name!r}", about=self.name):
            self._check()

    def _check(self) -> None:
        for name, kind in (("matches", Match), ("tasks", Task), ("splices", Splice)):
            object.__setattr__(self, name, _sequence(getattr(self, name), kind, name))
        if not self.matches and not self.tasks:
            raise RecipeError("it has neither matches nor tasks, so there is nothing to learn from")
        if self.train not in ("upstream", "between"):
            object.__setattr__(self, "train", _globs(self.train, "train"))
        object.__setattr__(self, "freeze", _globs(self.freeze, "freeze"))
        self._check_numbers()
        _check_factory(self.optimizer, "optimizer")
        _check_factory(self.scheduler, "scheduler")
        _check_groups(self.groups)
        self._check_splices()
        self._check_goals()

    def _check_numbers(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            both = "both steps and epochs" if self.steps is not None else "neither steps nor epochs"
            raise RecipeError(f"{both}; give one of them")
        for name in ("steps", "epochs", "accumulate", "every", "gradient_norms"):
            _check_count(getattr(self, name), name)
        if self.clip is not None and not (is_number(self.clip) and self.clip > 0):
            raise RecipeError(f"clip must be a number above 0, got {self.clip!r}", path=("clip",))
        if self.ema is not None and not (is_number(self.ema) and 0 <= self.ema < 1):
            raise RecipeError(f"ema must be a decay from 0 to below 1, got {self.ema!r}", path=("ema",))

    def _check_splices(self) -> None:
        read = any(split_model(text)[0] == HYBRID for term in self.terms.values() for text in _addresses(term))
        if read and not self.splices:
            raise RecipeError("a term reads the hybrid, and there are no splices that make it")
        if self.splices and not read:
            raise RecipeError("splices make a hybrid, and no term reads it, as in Match('hybrid:.', '.')")

    def _check_goals(self) -> None:
        if self.best is not None:
            parse_goal(self.best, "best")
        if self.until is not None:
            _check_until(self.until)
        if (self.best is not None or self.until is not None) and self.every is None:
            raise RecipeError("every must say after how many steps to evaluate: best and until need it")

    @property
    def terms(self) -> dict[str, Match | Task]:
        """Matches and tasks by their name in logs; a repeated name gets a number."""
        terms: dict[str, Match | Task] = {}
        for term in (*self.matches, *self.tasks):
            name, number = term.name, 1
            while name in terms:
                number += 1
                name = f"{term.name}#{number}"
            terms[name] = term
        return terms


def _addresses(term: Match | Task) -> tuple[str, ...]:
    return (*term.students, *term.teachers) if isinstance(term, Match) else term.students


def _check_count(value: Any, name: str) -> None:
    if value is not None and not (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        raise RecipeError(f"{name} must be a whole number of at least 1, got {value!r}", path=tuple(name.split(": ")))


def _check_factory(value: Any, name: str) -> None:
    node = isinstance(value, Mapping) and "_target_" in value
    if value is not None and not isinstance(value, str) and not node and not callable(value):
        raise RecipeError(
            f"{name} must be a node with _target_, a dotted name or a callable, got {value!r}", path=(name,)
        )


def _check_groups(groups: Any) -> None:
    if not isinstance(groups, Mapping) or not all(
        isinstance(glob, str) and isinstance(options, Mapping) for glob, options in groups.items()
    ):
        raise RecipeError(
            f"groups must be a mapping of globs to options such as {{head.*: {{lr: 1e-4}}}}, got {groups!r}",
            path=("groups",),
        )


def _check_until(until: Any) -> None:
    known = ("plateau", "patience", "min_delta")
    if not isinstance(until, Mapping) or "plateau" not in until:
        raise RecipeError(
            f"until must be a mapping such as {{plateau: max psnr, patience: 3}}, got {until!r}", path=("until",)
        )
    for key in until:
        if key not in known:
            raise RecipeError(f"until: unknown key {key!r}{close_names(str(key), known)}", path=("until", key))
    parse_goal(until["plateau"], "until: plateau")
    _check_count(until.get("patience", 1), "until: patience")
    if not (is_number(until.get("min_delta", 0.0)) and until.get("min_delta", 0.0) >= 0):
        raise RecipeError(
            f"until: min_delta must be a number of at least 0, got {until['min_delta']!r}", path=("until", "min_delta")
        )


def _sequence(value: Any, kind: type, name: str) -> tuple[Any, ...]:
    if (
        isinstance(value, (str, Mapping))
        or not isinstance(value, Sequence)
        or not all(isinstance(v, kind) for v in value)
    ):
        raise RecipeError(f"{name} must be a list of {kind.__name__} objects, got {value!r}", path=(name,))
    return tuple(value)


def _globs(value: Any, name: str) -> tuple[str, ...]:
    if isinstance(value, str) and name == "train":
        raise RecipeError(f"train must be a list of globs, 'upstream' or 'between', got {value!r}", path=("train",))
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(v, str) for v in value):
        raise RecipeError(f"{name} must be a list of globs over parameter names, got {value!r}", path=(name,))
    return tuple(value)


def steps_of(stage: Stage, loader: Iterable[Any]) -> int:
    """Return the number of optimizer steps of a stage.

    Raises:
        RecipeError: The stage is in epochs, and the loader has no length.
    """
    if stage.steps is not None:
        return stage.steps
    try:
        batches = len(loader)  # pyright: ignore[reportArgumentType]
    except TypeError:
        raise RecipeError(
            f"stage {stage.name!r}: epochs need a loader with a length; give steps", about=(stage.name,)
        ) from None
    return (stage.epochs or 1) * -(-batches // stage.accumulate)
