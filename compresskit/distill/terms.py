"""Terms: matches and tasks bound to losses and adapters, and the keeper of what trains beside the student."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from zlib import crc32

import torch
from torch import Tensor, nn

from compresskit import resolve
from compresskit.data import own_randomness
from compresskit.distill.adapters import Adapter, build_adapter
from compresskit.distill.describe import describe
from compresskit.distill.schedules import value_at
from compresskit.distill.stage import Match, Task
from compresskit.errors import RecipeError, ShapeError
from compresskit.losses.catalogue import Entry, make_loss, resolve_loss


@dataclass
class Learned:
    """What trains beside the student and never leaves with it: adapters, and losses that hold parameters.

    One adapter belongs to one (student tap, teacher tap) pair and lives on from stage to stage.
    """

    seed: int
    device: torch.device
    modules: dict[str, nn.Module] = field(default_factory=dict)
    _restored: dict[str, Any] = field(default_factory=dict)

    def keep(self, key: str, build: Callable[[], nn.Module]) -> nn.Module:
        """The module called `key`; built on first use, from a seed of its own."""
        if key not in self.modules:
            with own_randomness(self.seed, crc32(key.encode())):
                module = build()
            if key in self._restored:
                module.load_state_dict(self._restored[key])
            self.modules[key] = module.to(self.device)
        return self.modules[key]

    def state_dict(self) -> dict[str, Any]:
        """States by key, those of modules that are not built again yet included."""
        return {**self._restored, **{key: module.state_dict() for key, module in self.modules.items()}}

    def load_state_dict(self, states: Mapping[str, Any]) -> None:
        """Take the states of a checkpoint, for the modules that exist and for those to come."""
        self._restored = dict(states)
        for key in self.modules.keys() & states.keys():
            self.modules[key].load_state_dict(states[key])


@dataclass(frozen=True, slots=True)
class Term:
    """A match or a task with all that is needed to compute it."""

    spec: Match | Task
    entry: Entry
    loss: Callable[..., Any]
    teacher: tuple[str, str] | None = None
    """Name of the teacher, and the address in it; None for a task."""
    adapter: nn.Module | None = None
    target: Callable[[Any], Any] | None = None

    def modules(self) -> Iterator[nn.Module]:
        """What of this term may hold parameters."""
        adapter = self.adapter.learned if isinstance(self.adapter, Adapter) else self.adapter
        yield from (part for part in (adapter, self.loss) if isinstance(part, nn.Module))

    def value(self, student: Tensor, other: Any, step: int, steps: int) -> Tensor:
        """The unweighted loss, in float32 or better: `other` is the teacher's tensor, or the batch's target.

        Raises:
            ShapeError: The two cannot be compared, or the loss is not one number.
        """
        student, other = _wide(student), _wide(other)
        if self.teacher is not None:
            student, other = self._adapted(student, other)
        elif self.target is not None:
            other = _wide(self.target(other))
        options = self.spec.options if not self.entry.built else {}  # a class or factory got its own when it was made
        value = self.loss(student, other, **{name: value_at(option, step, steps) for name, option in options.items()})
        if not isinstance(value, Tensor) or value.numel() != 1:
            found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ShapeError(f"a loss must give one number, got {found}")
        return _wide(value).reshape(())

    def _adapted(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(self.adapter, Adapter):
            return self.adapter(student, teacher)
        return (student if self.adapter is None else self.adapter(student)), teacher


def bind_match(
    match: Match, point: tuple[str, str], shapes: tuple[torch.Size, torch.Size], learned: Learned, where: str
) -> Term:
    """The term of a match whose two tensors have `shapes`; its adapter is built where one is missing.

    Raises:
        RecipeError: A node cannot be built, or the pair already has another adapter.
        ShapeError: No adapter can be built between these shapes.
    """
    entry = resolve_loss(match.loss, where=where)
    pair = f"{match.student} -> {match.teacher}"
    key = f"adapter {pair}"
    adapter = None
    if match.adapter == "auto":
        try:
            adapter = build_adapter(*shapes, entry.agree, keep=partial(learned.keep, key))
        except ShapeError as error:
            raise ShapeError(f"{where}: {error}") from None
    elif match.adapter is not None:
        adapter = learned.keep(key, lambda: _given_adapter(match.adapter, where))
        if isinstance(match.adapter, nn.Module) and adapter is not match.adapter:
            raise RecipeError(f"{where}: the pair {pair} already has another adapter; one pair, one adapter")
    return Term(match, entry, _bound_loss(match, entry, learned, pair, where), point, adapter)


def bind_task(task: Task, learned: Learned, where: str) -> Term:
    """The term of a task.

    Raises:
        RecipeError: The loss or the target's node cannot be built.
    """
    entry = resolve_loss(task.loss, where=where)
    target = task.target
    if isinstance(target, Mapping):
        target = resolve.build(target, kind="callable", where=f"{where}: target")
    return Term(task, entry, _bound_loss(task, entry, learned, f"{task.student} -> target", where), target=target)


def _bound_loss(spec: Match | Task, entry: Entry, learned: Learned, pair: str, where: str) -> Callable[..., Any]:
    """The callable; a module lives on across the stages that use it on this pair with the same options."""
    loss = make_loss(entry, spec.options, where=where)
    if not isinstance(loss, nn.Module):
        return loss
    key = f"loss {entry.name}({describe(spec.options)}) {pair}"
    number = 1
    while not entry.built and learned.modules.get(key, loss) is not loss:  # another instance of the user's
        number += 1
        key = f"{key.partition('#')[0]}#{number}"
    return learned.keep(key, lambda: loss)


def _given_adapter(adapter: Any, where: str) -> nn.Module:
    return (
        adapter if isinstance(adapter, nn.Module) else resolve.build(adapter, kind="module", where=f"{where}: adapter")
    )


def _wide(value: Any) -> Any:
    """Half precision becomes float32; anything else, labels included, stays what it is."""
    return value.float() if isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16) else value
