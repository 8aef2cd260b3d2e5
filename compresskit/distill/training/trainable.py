"""The parameters that train in a stage, and a `with` block in which nothing else of the learners can change."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import NamedTuple

from torch import nn

from compresskit.distill.objective.models import Models, qualified
from compresskit.distill.spec.stage import Stage
from compresskit.errors import RecipeError, close_names
from compresskit.restore import preserve_state, restore_buffers, save_buffers


def trainable_names(stage: Stage, models: Models, reached: Collection[str], before: Collection[str]) -> set[str]:
    """Return the names of the parameters that `stage` trains.

    Args:
        stage: Stage whose `train` and `freeze` count.
        models: The student and its teachers. Those on the student's side of a term learn; a parameter with
            `requires_grad=False` stays out: what the user froze stays frozen.
        reached: Names of the parameters behind the stage's terms.
        before: Names of the parameters behind the points of the stage before.

    Raises:
        RecipeError: A glob matches no parameter, or nothing is left to train.
    """
    aliases: dict[nn.Parameter, list[str]] = {}
    for model in models.learners(stage.terms.values()):
        for name, parameter in models.module(model).named_parameters(remove_duplicate=False):
            aliases.setdefault(parameter, []).append(qualified(model, name))
    # a curriculum's stages share their globs, and not in all of them the same models learn
    names = models.parameter_names()
    for globs, option in ((stage.train, "train"), (stage.freeze, "freeze")):
        for glob in () if isinstance(globs, str) else globs:
            if glob != "*" and not any(fnmatchcase(name, glob) for name in names):
                raise RecipeError(
                    f"stage {stage.name!r}: {option}: {glob!r} matches no parameter{close_names(glob, names)}",
                    about=(glob,),
                )
    wanted = {"upstream": set(reached), "between": set(reached) - set(before)}.get(str(stage.train))
    chosen = {
        group[0]
        for parameter, group in aliases.items()
        if parameter.requires_grad
        and any(name in wanted if wanted is not None else _matches(name, stage.train) for name in group)
        and not any(_matches(name, stage.freeze) for name in group)
    }
    if not chosen:
        frozen = sum(not parameter.requires_grad for parameter in aliases)
        raise RecipeError(
            f"stage {stage.name!r}: train={stage.train!r} leaves nothing to train"
            + (f" ({frozen} of {len(aliases)} parameters have requires_grad=False)" if frozen else ""),
        )
    if not chosen & set(reached):
        raise RecipeError(
            f"stage {stage.name!r}: no term reaches any of the parameters that train={stage.train!r} names",
        )
    return chosen


@contextmanager
def train_only(learners: Mapping[str, nn.Module], stage: Stage, names: Collection[str]) -> Iterator[Callable[[], None]]:
    """Let the parameters `names` learn inside the block, and nothing else of the learners; restore modes and flags.

    A module with running statistics (or other buffers of its own) is in training mode only where the stage trains it:
    a parameter of its own is in `names`; where it has none, its buffers match the stage's globs, or, without globs, the
    layer before it trains.

    Yields:
        A function that sets the modes again, after a loop has called `train()` or `eval()`.
    """
    frozen = [
        module
        for model in learners
        for path, module in learners[model].named_modules()
        if _has_buffers(module) and not _buffers_learn(path, module, _Learner(model, learners[model]), stage, names)
    ]
    buffers = save_buffers(frozen)

    def set_modes() -> None:
        for learner in learners.values():
            learner.train()
        for module in frozen:
            module.training = False

    with preserve_state(*learners.values()):
        for model, learner in learners.items():
            for name, parameter in learner.named_parameters():
                parameter.requires_grad_(qualified(model, name) in names)
        set_modes()
        try:
            yield set_modes
        finally:
            restore_buffers(buffers)  # some modules update counters even in eval mode


class _Learner(NamedTuple):
    name: str
    module: nn.Module

    def qualified(self, *path: str) -> str:
        return qualified(self.name, ".".join(part for part in path if part))


def _buffers_learn(path: str, module: nn.Module, learner: _Learner, stage: Stage, names: Collection[str]) -> bool:
    own = [name for name, _ in module.named_parameters(recurse=False)]
    if own:
        return any(learner.qualified(path, name) in names for name in own)
    buffers = [learner.qualified(path, name) for name, _ in module.named_buffers(recurse=False)]
    if not isinstance(stage.train, str):
        return any(_matches(name, stage.train) and not _matches(name, stage.freeze) for name in buffers)
    if any(_matches(name, stage.freeze) for name in buffers):
        return False
    return _parameter_before(path, learner) in names


def _parameter_before(path: str, learner: _Learner) -> str | None:
    """Return the last parameter before the module at `path`: a norm without any belongs to the layer before it."""
    last = None
    for place, module in learner.module.named_modules():
        if place == path:
            return last
        own = (learner.qualified(place, name) for name, _ in module.named_parameters(recurse=False))
        last = next(own, last)
    return last


def _has_buffers(module: nn.Module) -> bool:
    return any(True for _ in module.named_buffers(recurse=False))


def _matches(name: str, globs: Collection[str]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)
