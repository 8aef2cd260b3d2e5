"""Shapes and parameters behind each tap, found by one forward of each model. Tracing leaves no mark on the models."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from compresskit.distill.objective.models import Models, Point, qualified
from compresskit.distill.spec.address import HYBRID, PREVIOUS, STUDENT
from compresskit.distill.spec.match import Match
from compresskit.distill.spec.stage import Stage
from compresskit.distill.taps.failure import explain_failure
from compresskit.distill.taps.taps import Taps, check_call, version_of
from compresskit.nested import clone_tensors, tensors_in
from compresskit.randomness import own_randomness
from compresskit.restore import preserve_state


@dataclass(frozen=True, slots=True)
class Trace:
    """Facts about the tapped tensors of one model, from one forward."""

    shapes: dict[str, torch.Size]
    """Shape at each address."""
    dtypes: dict[str, torch.dtype]
    """Type at each address."""
    parameters: dict[str, frozenset[str]]
    """Names of the learners' parameters from which the tensor at each address is computed."""
    overwritten: frozenset[str]
    """Addresses whose tensor is changed in place later in the forward."""
    writes: bool
    """True if the model writes into its inputs."""
    counters: frozenset[str] = frozenset()
    """Attributes, as `module.path.name`, that hold a whole number which the forward changed."""

    def empty(self, address: str) -> Tensor:
        """Return a tensor without values that has the shape and type at an address."""
        return torch.empty(self.shapes[address], dtype=self.dtypes[address], device="meta")


class Role(NamedTuple):
    """A model in one of its two roles: as a learner (training mode, gradients) or frozen (eval mode, no gradients)."""

    model: str
    learns: bool


@dataclass(frozen=True, slots=True)
class Traces:
    """Traces of all models of a run on one batch, shared by its stages: each role of a model ran once."""

    signature: tuple[Any, ...]
    """`batch_signature` of the models and the inputs."""
    of: dict[Role, Trace]
    """The trace of each model in each role."""
    tensors: dict[Role, dict[str, Tensor]] = field(default_factory=dict)
    """The detached tensors of that forward, for a check of the losses; `release` frees them."""

    def points(self, learners: Collection[str]) -> dict[Point, Tensor]:
        """Return the detached tensors at every point that a stage with these learners may read."""
        return {
            Point(role.model, address): tensor
            for role, tensors in self.tensors.items()
            if role.learns == (role.model in learners)
            for address, tensor in tensors.items()
        }

    def release(self) -> None:
        """Free the tensors."""
        self.tensors.clear()


def batch_signature(models: Models, *parts: Any) -> tuple[Any, ...]:
    """Return what decides a trace: shapes, types and devices in a batch, and the very parameters of the models."""
    batch = tuple((tensor.shape, tensor.dtype, tensor.device) for tensor in tensors_in(parts))
    return batch, tuple(id(p) for model in models.modules for p in model.parameters())


def trace_stages(
    stages: Sequence[Stage],
    models: Models,
    inputs: Any,
    *,
    training: bool = True,
    keep_tensors: bool = False,
) -> Traces:
    """Run each model once per role, to its end, with the taps of all `stages` in place.

    Args:
        stages: Stages whose taps are read. The hybrid of a stage with splices is left to `Forwards`.
        models: The student and its teachers.
        inputs: Inputs of a batch.
        training: Whether learners run in training mode; False runs them alone, in eval mode as in validation.
        keep_tensors: Whether the result holds the tapped tensors, until `release`.

    Raises:
        TapError: An address names no tensor, or several.
    """
    traces = Traces(batch_signature(models, inputs), {})
    for role, addresses in _reads(stages, models).items():
        if not training and not role.learns:
            continue
        model = models.module(STUDENT if role.model == PREVIOUS else role.model)
        with tracing({role.model: model}, [role.model] if role.learns else []) as names:
            if not training:
                model.eval()
            with (
                Taps(model, addresses, stop=False) as taps,
                explain_failure(_reader(stages, models, role.model), model),
            ):
                traces.of[role] = observe(taps, models.view(role.model, inputs), names if training else {})
                if keep_tensors:
                    traces.tensors[role] = {address: taps.raw(address).detach() for address in addresses}
    return traces


def _reads(stages: Sequence[Stage], models: Models) -> dict[Role, list[str]]:
    """Return the addresses that some stages read, by role; models that learn come last."""
    reads: dict[Role, dict[str, None]] = {}
    for number, stage in enumerate(stages):
        learners = models.learners(stage.terms.values())
        points = [point for term in stage.terms.values() for point in models.student_points(term)]
        points += [p for term in stage.terms.values() if isinstance(term, Match) for p in models.teacher_points(term)]
        if stage.splices:  # `Forwards` traces these itself; here they only tell a stage "between" what this one trains
            followed = any(after.train == "between" for after in stages[number + 1 : number + 2])
            points = [*points, *_student_ends(stage, models)] if followed else []
        for name, address in points:
            if name != HYBRID:
                reads.setdefault(Role(name, name in learners), {})[address] = None
    return {role: list(reads[role]) for role in sorted(reads, key=lambda role: role.learns)}


def _reader(stages: Sequence[Stage], models: Models, model: str) -> str:
    """Return the beginning of a message about a model: the first stage and term that read it, and where."""
    for stage in stages:
        for name, term in stage.terms.items():
            points = [*models.student_points(term), *(models.teacher_points(term) if isinstance(term, Match) else ())]
            for point in points:
                if point.model == model:
                    return f"stage {stage.name!r}: {name}: the {model}, read at {point.address!r},"
    return f"the {model}"


def _student_ends(stage: Stage, models: Models) -> list[Point]:
    return [end for splice in stage.splices for end in models.splice_points(splice) if end.model == STUDENT]


@contextmanager
def tracing(chosen: Mapping[str, nn.Module], learners: Collection[str]) -> Iterator[dict[Tensor, str]]:
    """Put models into the state of training, and restore them on exit.

    Learners run in training mode, with gradients for all parameters, others in eval mode. Buffers, modes, flags and
    random generators are restored.

    Yields:
        The names of the learners' parameters.
    """
    with preserve_state(*chosen.values(), buffers=True), own_randomness(0):
        names: dict[Tensor, str] = {}
        for name, model in chosen.items():
            model.train(name in learners)
            for path, parameter in model.named_parameters():
                parameter.requires_grad_(name in learners and parameter.is_floating_point())
                if name in learners:
                    names[parameter] = qualified(name, path)
        yield names


def observe(taps: Taps, inputs: Any, names: Mapping[Tensor, str]) -> Trace:
    """Run a model once, to its end, and note the facts of its taps. Call it inside `tracing` and `with taps`.

    Raises:
        TapError: An address names nothing or several tensors.
    """
    check_call(taps.model, inputs)
    inputs = clone_tensors(inputs)
    versions = [version_of(tensor) for tensor in tensors_in(inputs)]
    numbers = _whole_numbers(taps.model)
    with torch.set_grad_enabled(bool(names)):
        taps.forward(inputs)
    return Trace(
        {address: taps.raw(address).shape for address in taps},
        {address: taps.raw(address).dtype for address in taps},
        _parameters_behind({address: taps.raw(address) for address in taps}, names),
        taps.overwritten(),
        versions != [version_of(tensor) for tensor in tensors_in(inputs)],
        frozenset(name for name, _ in _whole_numbers(taps.model) - numbers),
    )


def reached_by_previous_stage(stages: Sequence[Stage], index: int, models: Models, traces: Traces) -> set[str]:
    """Return the names of the parameters behind the points of the stage before, for a stage that trains "between"."""
    if stages[index].train != "between" or index == 0:
        return set()
    before = stages[index - 1]
    points = {point for term in before.matches or before.tasks for point in models.student_points(term)}
    points.update(_student_ends(before, models))
    return {
        name
        for model, address in points
        if model != HYBRID
        for name in traces.of[Role(model, learns=True)].parameters[address]
    }


def _whole_numbers(model: nn.Module) -> set[tuple[str, int]]:
    """Return the attributes of a model's modules that hold a whole number, by `module.path.name`."""
    return {
        (f"{path}.{name}", value)
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, int)
    }


def _parameters_behind(tensors: Mapping[str, Tensor], names: Mapping[Tensor, str]) -> dict[str, frozenset[str]]:
    return {address: frozenset(_leaves(tensor, names)) if names else frozenset() for address, tensor in tensors.items()}


def _leaves(tensor: Tensor, names: Mapping[Tensor, str]) -> Iterator[str]:
    """Yield the names of the parameters in which the autograd graph of `tensor` ends."""
    if isinstance(tensor, nn.Parameter) and tensor in names:
        yield names[tensor]
    queue, seen = [tensor.grad_fn], set()
    while queue:
        node = queue.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(leaf := getattr(node, "variable", None), nn.Parameter) and leaf in names:
            yield names[leaf]
        for module in _modules_of(getattr(node, "run_function", None)):  # reentrant checkpointing hides its graph
            yield from (names[parameter] for parameter in module.parameters() if parameter in names)
        queue.extend(parent for parent, _ in node.next_functions)


def _modules_of(function: Any) -> Iterator[nn.Module]:
    """Yield the modules that a function may call: itself, its object and what it closes over."""
    if isinstance(function, nn.Module):
        yield function
    elif isinstance(function, partial):
        for part in (function.func, *function.args):
            yield from _modules_of(part)
    elif callable(function):
        cells = (cell.cell_contents for cell in getattr(function, "__closure__", None) or ())
        for part in (getattr(function, "__self__", None), *cells):
            if isinstance(part, nn.Module):
                yield part
