"""The object of a dotted name, imported from the installation, if a recipe may use it in a slot.

That is a name on the list, or one in a package that the user allows.
"""

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any

from compresskit.errors import RecipeError, close_names
from compresskit.installation import without_current_folder
from compresskit.nodes.allowed import PACKAGES, SLOTS, Allowed, Kind, allowed_names, members

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

_MISSING = object()


_allowed: ContextVar[frozenset[str]] = ContextVar("allowed", default=frozenset())


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


@contextmanager
def allow(packages: Iterable[str]) -> Iterator[None]:
    """Let names reach everything in `packages` (dotted names are fine), and find them in the current folder too.

    The folder goes to the end of the import path, so that a file in it never hides an installed package.

    Raises:
        RecipeError: One of them is no package's name, or is neither installed nor in the current folder.
    """
    packages, here = frozenset(packages), str(Path.cwd())
    added = bool(packages) and here not in sys.path
    if added:
        sys.path.append(here)
    token = _allowed.set(_allowed.get() | packages)
    try:
        for package in sorted(packages):
            _check_package(package)
        yield
    finally:
        _allowed.reset(token)
        if added and here in sys.path:
            sys.path.remove(here)


def allowed_packages() -> list[str]:
    """Return the packages that are allowed now."""
    return sorted(_allowed.get())


def is_allowed(dotted: str) -> bool:
    """Return whether a name is in one of the allowed packages."""
    return any(dotted == package or dotted.startswith(f"{package}.") for package in _allowed.get())


def parts_of(dotted: str) -> list[str]:
    """Return the parts of a dotted name.

    Raises:
        RecipeError: The text is no dotted name.
    """
    parts = dotted.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise RecipeError(f"expected a dotted name such as 'torch.nn.Linear', got {dotted!r}")
    return parts


def is_importable(top: str) -> bool:
    """Return whether there is a package or module of that name. Nothing is imported."""
    if top in sys.modules:
        return True
    try:
        return importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        return False


def load(dotted: str) -> Any:
    """Return the object of a name that is on the list, or in an allowed package. Modules on the way are imported.

    Raises:
        RecipeError: There is no such name; the message has the nearest.
    """
    top, *names = dotted.split(".")
    if is_allowed(dotted):
        return _walk(top, names, dotted)
    with without_current_folder():
        return _walk(top, names, dotted)


def _walk(top: str, names: list[str], dotted: str) -> Any:
    if not is_importable(top):
        raise RecipeError(f"no package {top!r} is installed, for {dotted!r}")
    thing: Any = importlib.import_module(top)
    for name in names:
        thing = _member(thing, name, dotted)
    return thing


def _member(owner: Any, name: str, dotted: str) -> Any:
    """Return an attribute or a submodule of `owner`, imported if need be."""
    top = dotted.partition(".")[0]
    if not hasattr(owner, name) and isinstance(owner, ModuleType) and hasattr(owner, "__path__"):
        full = f"{owner.__name__}.{name}"
        if importlib.util.find_spec(full):
            return importlib.import_module(full)
    thing = getattr(owner, name, _MISSING)
    if thing is _MISSING or _is_foreign(thing, top):  # foreign: `zoo.data.os.system` leaves its package
        names = {other for other in dir(owner) if not other.startswith("_")}
        names = {other for other in names if not _is_foreign(getattr(owner, other, None), top)}
        names |= {module.name for module in pkgutil.iter_modules(getattr(owner, "__path__", []))}
        title = getattr(owner, "__qualname__", None) or getattr(owner, "__name__", repr(owner))
        raise RecipeError(f"{title} has no {name!r}{close_names(name, sorted(names))}")
    return thing


def _is_foreign(thing: Any, top: str) -> bool:
    return isinstance(thing, ModuleType) and thing.__name__.partition(".")[0] != top


def _check_package(package: str) -> None:
    top = package.partition(".")[0]
    if not all(part.isidentifier() for part in package.split(".")):
        raise RecipeError(f"--allow {package}: expected the name of a package, such as 'my_networks', without its path")
    if not is_importable(top):
        raise RecipeError(
            f"--allow {package}: no package {top!r} is installed or in the current folder{close_names(top, PACKAGES)}"
        )
