"""The models of a run by name, and taps in them: the student, its teachers, and two that exist only inside a stage."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy

from compresskit.distill.spec.address import HYBRID, PREVIOUS, STUDENT, parse_address, split_model
from compresskit.distill.spec.match import Match, Splice, Task
from compresskit.distill.spec.stage import Stage
from compresskit.errors import RecipeError, at, close_names, first_line, within

View = Callable[[Any], Any]
"""Makes a model's own inputs from a batch's inputs."""


class Point(NamedTuple):
    """A tap in one of the models."""

    model: str
    address: str

    @property
    def key(self) -> str:
        """A text that is the same for all spellings of this tap."""
        return f"{self.model}:{parse_address(self.address).key}"


@dataclass(frozen=True)
class Models:
    """The student and its teachers, and each model's view of a batch.

    Raises:
        RecipeError: A model has weights without values, a teacher has a reserved name, or a view belongs to no model.
    """

    student: nn.Module
    teachers: Mapping[str, nn.Module] = field(default_factory=dict)
    views: Mapping[str, View] = field(default_factory=dict)
    wrapper: DistributedDataParallel | None = None
    """The user's own wrapper around the student; its group, `no_sync` and `find_unused_parameters` are respected."""

    def __post_init__(self) -> None:
        for name, model in {**self.teachers, STUDENT: self.student}.items():
            with at(name):
                _check_values(model)
        for name in self.teachers:
            if name in (STUDENT, PREVIOUS, HYBRID) or not name.isidentifier():
                raise RecipeError(
                    f"teacher {name!r}: a teacher's name is an identifier, but not student, previous or hybrid"
                )
        for name in self.views:
            if name not in (STUDENT, *self.teachers):
                raise RecipeError(
                    f"views: there is no model {name!r}{close_names(name, (STUDENT, *self.teachers))}",
                    path=("views", name),
                )

    @property
    def group(self) -> Any:
        """The process group of the user's wrapper; None stands for all processes."""
        return None if self.wrapper is None else self.wrapper.process_group

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """The student and all teachers."""
        return self.student, *self.teachers.values()

    @property
    def is_time_first(self) -> bool:
        """True if a layer of the student reads sequences whose first dimension is time: torch's default."""
        return any(getattr(module, "batch_first", True) is False for module in self.student.modules())

    def module(self, name: str) -> nn.Module:
        """Return the student or a teacher."""
        return self.student if name == STUDENT else self.teachers[name]

    def to(self, device: torch.device, note: Callable[[str], None] = lambda _: None) -> None:
        """Move the student and all teachers to `device`.

        A model that refuses to move, because it is in 8 bits or offloaded, may lie there already; a teacher may also
        stay elsewhere, as its own code places it.

        Args:
            device: The device.
            note: Function that receives a line of text about a teacher that stays.
        """
        for name, module in {**self.teachers, STUDENT: self.student}.items():
            try:
                module.to(device)
            except torch.OutOfMemoryError:  # it could move, and does not fit
                raise
            except (ValueError, RuntimeError, NotImplementedError) as error:
                target = torch.empty(0, device=device).device  # "cuda" has a number
                if all(tensor.device == target for tensor in (*module.parameters(), *module.buffers())):
                    continue
                if name == STUDENT:
                    raise
                note(f"{name} stays where it is: {first_line(error)}")

    def view(self, name: str, inputs: Any) -> Any:
        """Return a model's own inputs, made from a batch's inputs; the previous student has the student's view."""
        view = self.views.get(STUDENT if name == PREVIOUS else name)
        return inputs if view is None else view(inputs)

    def parameters(self, names: Collection[str]) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the parameters of the models called `names` with their qualified names, each parameter once."""
        seen: set[nn.Parameter] = set()
        for model in names:
            for name, parameter in self.module(model).named_parameters():
                if parameter not in seen:
                    seen.add(parameter)
                    yield qualified(model, name), parameter

    def parameter_names(self) -> list[str]:
        """Return the qualified names of all parameters of all models, also those that share one tensor."""
        models = {STUDENT: self.student, **self.teachers}
        return [
            qualified(name, path)
            for name, model in models.items()
            for path, _ in model.named_parameters(remove_duplicate=False)
        ]

    def learners(self, terms: Iterable[Match | Task]) -> list[str]:
        """Return the names of the models on the student's side of `terms`; through the hybrid the student learns."""
        names = {point.model for term in terms for point in self.student_points(term)}
        return [name for name in (*self.teachers, STUDENT) if name in names or (name == STUDENT and HYBRID in names)]

    def student_points(self, term: Match | Task) -> tuple[Point, ...]:
        """Return the taps on the student's side of a term; the models there learn.

        Raises:
            RecipeError: A model is unknown or cannot learn.
        """
        points = tuple(self._point(text, STUDENT, term.name) for text in term.students)
        if any(point.model == PREVIOUS for point in points):
            raise RecipeError(f"{term.name}: previous is a frozen copy and cannot learn; put it on the teacher's side")
        return points

    def teacher_points(self, match: Match) -> tuple[Point, ...]:
        """Return the taps on the teacher's side of a match.

        Raises:
            RecipeError: A model is unknown, or it is not clear which teacher is meant.
        """
        return tuple(self._point(text, self._only_teacher, match.name) for text in match.teachers)

    def splice_points(self, splice: Splice) -> tuple[Point, Point]:
        """Return the tap where a splice takes its tensor, and the tap where it puts it.

        Raises:
            RecipeError: A model is unknown, or both are the same.
        """
        name = f"splice {splice.source} -> {splice.into}"
        source = self._point(splice.source, STUDENT, name)
        into = self._point(str(splice.into), self._only_teacher if source.model == STUDENT else STUDENT, name)
        if source.model == into.model or {PREVIOUS, HYBRID} & {source.model, into.model}:
            raise RecipeError(
                f"{name}: a splice leads from the student into a teacher, or from a teacher into the student"
            )
        return source, into

    def check(self, stage: Stage) -> None:
        """Check that every model that a stage names exists.

        Raises:
            RecipeError: A model does not exist; the message names the nearest.
        """
        with within(f"stage {stage.name!r}", about=stage.name):
            for term in stage.terms.values():
                student = self.student_points(term)
                if isinstance(term, Match) and [p.key for p in student] == [p.key for p in self.teacher_points(term)]:
                    raise RecipeError(f"{term.name} compares a tensor with itself; give it another teacher address")
            for splice in stage.splices:
                self.splice_points(splice)

    def _point(self, text: str, default: str | Callable[[str], str], where: str) -> Point:
        name, address = split_model(text)
        if not name:
            return Point(default if isinstance(default, str) else default(where), address)
        if name not in (STUDENT, PREVIOUS, HYBRID, *self.teachers):
            known = (*self.teachers, STUDENT, PREVIOUS, HYBRID)
            kind = "teacher" if self.teachers else "model"
            raise RecipeError(f"{where}: no {kind} {name!r}{close_names(name, known)}", about=(text,))
        return Point(name, address)

    def _only_teacher(self, where: str) -> str:
        if not self.teachers:
            raise RecipeError(f"{where} needs a teacher, and there is none")
        if len(self.teachers) > 1:
            raise RecipeError(f"{where}: say which teacher, as in '{next(iter(self.teachers))}:ADDRESS'")
        return next(iter(self.teachers))


def qualified(model: str, name: str) -> str:
    """Return a parameter's name among those of all models; the student's keep their own names."""
    return name if model == STUDENT else f"{model}:{name}"


def _check_values(model: nn.Module) -> None:
    """Check that all parameters and buffers of a model have values that can be trained.

    Raises:
        RecipeError: One has no shape or no values, is sharded, or was made in inference mode.
    """
    is_offloaded = any(hasattr(module, "_hf_hook") for module in model.modules())  # accelerate loads it in each forward
    for path, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise RecipeError(f"{path} has no shape yet (a lazy module); run one batch through it first")
        if tensor.is_meta and not is_offloaded:
            raise RecipeError(
                f"{path} is on the meta device and has no values; call model.to_empty(...) and load its weights"
            )
        if type(tensor).__name__ == "DTensor":  # its module is slow to import
            raise RecipeError(f"{path} is sharded over processes (fully_shard); give a whole model in each of them")
        if tensor.is_inference():
            raise RecipeError(f"{path} was made in torch.inference_mode; build and load the model outside of it")
