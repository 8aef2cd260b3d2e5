"""Objects from dotted names, imported from the installation; and the packages that the user trusts."""

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
from compresskit.nodes.allowed import PACKAGES

_MISSING = object()


_allowed: ContextVar[frozenset[str]] = ContextVar("allowed", default=frozenset())


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
