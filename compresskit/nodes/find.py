"""The object of a dotted name, if a recipe may use it in a slot: it is on the list, or the user allows its package."""

import sys
from pathlib import Path
from typing import Any

from compresskit.errors import RecipeError, close_names
from compresskit.nodes.allowed import PACKAGES, SLOTS, Allowed, Kind, allowed_names, members
from compresskit.nodes.importing import is_allowed, is_importable, load, parts_of

FORMER_NAMES = {"compresskit.distill.schedules.WarmupCosine": "compresskit.schedules.WarmupCosine"}
"""Names that recipes of earlier runs hold, and the names that mean the same now."""


_FACES = {"compresskit.distill.curricula": "compresskit.curricula"}
"""Modules by another of their names."""


_REASONS: dict[Kind, str] = {
    "module": "it is no torch.nn.Module class, nor a model builder of torchvision or timm",
    "optimizer": "it is no torch.optim.Optimizer class",
    "scheduler": "it is no torch.optim.lr_scheduler.LRScheduler class",
    "dataset": "it is no torch.utils.data.Dataset class",
    "callable": "losses, targets and views come from compresskit, zoo, torch.nn and torchvision.transforms",
    "curriculum": "curricula come from compresskit.curricula",
    "schedule": "a schedule is 'linear', 'cosine' or 'constant', or a function of your own",
    "evaluation": "evaluations come from zoo",
    "argument": "options are modules, datasets, transforms, or parts from zoo",
}


def find(dotted: str, *, kind: Kind = "callable") -> Any:
    """Return the object of a dotted name, if a recipe may use it in a slot of this kind.

    Raises:
        RecipeError: There is no such name (the message has the nearest), or it may not be used here.
    """
    return find_with_entry(dotted, kind)[0]


def find_with_entry(dotted: str, kind: Kind) -> tuple[Any, Allowed | None]:
    """Return the object of a name and its entry in the list; None for one of an allowed package.

    Raises:
        RecipeError: There is no such name (the message has the nearest), or it may not be used here.
    """
    parts_of(dotted)
    dotted = FORMER_NAMES.get(dotted, dotted)
    if is_allowed(dotted):
        return load(dotted), None
    module, _, name = dotted.rpartition(".")
    entry = allowed_names().get(f"{_FACES.get(module, module)}.{name}") or _at_home(dotted)
    if entry is None:
        raise _refusal(dotted, kind)
    if entry.group not in SLOTS[kind]:
        raise RecipeError(f"a recipe may not use {dotted} here: {_REASONS[kind]}")
    return load(entry.dotted), entry


def _at_home(dotted: str) -> Allowed | None:
    """Return the entry of a listed object whose full name, by the file that defines it, is written instead."""
    top, *_, name = dotted.split(".")
    for entry in allowed_names().values():
        if entry.name == name and entry.module.partition(".")[0] == top and is_importable(top):
            thing = load(entry.dotted)
            if f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', '')}" == dotted:
                return entry
    return None


def _refusal(dotted: str, kind: Kind) -> RecipeError:
    """Return the error for a name that is not on the list. Nothing is imported for it that the list does not name."""
    top, module, name = dotted.partition(".")[0], *dotted.rpartition(".")[::2]
    if top not in PACKAGES:
        if not is_importable(top) and not Path(top).exists() and not Path(f"{top}.py").exists():
            return RecipeError(f"no package {top!r} for {dotted!r}{close_names(top, PACKAGES)}")
        if top not in sys.modules:
            return RecipeError(f"importing {dotted} would run code of {top!r}; if you trust it, add --allow {top}")
        if (owner := sys.modules.get(module)) is not None and name not in vars(owner):
            return RecipeError(f"{module} has no {name!r}{close_names(name, [n for n in vars(owner) if n[0] != '_'])}")
        return RecipeError(f"a recipe may not use {dotted} here: {_REASONS[kind]}. If you trust it, add --allow {top}")
    if not is_importable(top):
        return RecipeError(f"no package {top!r} is installed, for {dotted!r}")
    if (listed := members(module)) and name not in listed and name not in vars(owner := load(module)):
        return RecipeError(f"{owner.__name__} has no {name!r}{close_names(name, members(module, kind) or listed)}")
    return RecipeError(
        f"a recipe may not use {dotted} here: it is not on the list of names that can do no harm. If you trust it, add "
        f"--allow {top}"
    )
