"""Objects from dotted names: the configuration language of a recipe, and the limits of what a name may reach.

A string is a reference; a mapping with `_target_` is called with its other keys (`_args_` are positional). A recipe is
data and must not run code, so names are limited twice:

- Importing a module runs it. A name imports only from the packages in `IMPORTABLE`, which have no surprises, and from
  allowed ones. Any other package can be reached only if the Python program that runs the recipe has imported it.
- Calling is limited by kind. A class may come from anywhere if it is of the slot's type. Public functions come from
  some rooms of `compresskit`, from `zoo`, `torch.nn.functional`, and for models from the builders of torchvision and
  timm.

`allow` (the command line's `--allow`) lifts both limits for one package.
"""

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from torch import nn, optim
from torch.utils.data import Dataset

from compresskit.errors import CompressKitError, KeyPath, RecipeError, at, close_names
from compresskit.signature import check_arguments, option_names

Kind = Literal["module", "optimizer", "scheduler", "dataset", "callable", "evaluation", "argument"]


IMPORTABLE = ("compresskit", "zoo", "torch", "torchvision", "timm", "torchdistill")


FORMER_NAMES = {"compresskit.distill.schedules.WarmupCosine": "compresskit.schedules.WarmupCosine"}
"""Names that recipes of earlier runs hold, and the names that mean the same now."""


_OPEN = (
    "compresskit.losses",
    "compresskit.distill.curricula",
    "compresskit.distill.views",
    "compresskit.distill.spec.schedules",
    "compresskit.data",
    "compresskit.evaluation",
    "zoo",
)
"""Our own modules that are open to recipes. With the others a recipe could allow itself anything, or run a command."""


_CLOSED = ("zoo.commands", "zoo.frames")
"""Parts of those that write files, closed again."""


_CLASSES: dict[Kind, tuple[type, ...]] = {
    "module": (nn.Module,),
    "optimizer": (optim.Optimizer,),
    "scheduler": (optim.lr_scheduler.LRScheduler,),
    "dataset": (Dataset,),
    "callable": (nn.Module,),
    "evaluation": (),
    "argument": (nn.Module, Dataset),
}


_RESULTS: dict[Kind, tuple[str, Callable[[Any], bool]]] = {
    "module": ("a torch.nn.Module", lambda thing: isinstance(thing, nn.Module)),
    "optimizer": ("a torch optimizer", lambda thing: isinstance(thing, optim.Optimizer)),
    "scheduler": ("a torch learning-rate scheduler", lambda thing: isinstance(thing, optim.lr_scheduler.LRScheduler)),
    "dataset": ("a dataset", lambda thing: hasattr(thing, "__getitem__") and hasattr(thing, "__len__")),
    "callable": ("callable", callable),
    "evaluation": (
        "an evaluation: it has neither per_sample nor __call__",
        lambda thing: callable(thing) or hasattr(thing, "per_sample"),
    ),
    "argument": ("anything", lambda _: True),
}


_REASONS: dict[Kind, str] = {
    "module": "it is no torch.nn.Module class, nor a model builder of torchvision or timm",
    "optimizer": "it is no torch.optim.Optimizer class",
    "scheduler": "it is no torch.optim.lr_scheduler.LRScheduler class",
    "dataset": "it is no torch.utils.data.Dataset class",
    "callable": "functions come from compresskit's losses and curricula, zoo and torch.nn.functional, "
    "classes are torch.nn.Modules",
    "evaluation": "evaluations come from zoo",
    "argument": "options are built from zoo, or are modules or datasets",
}


_MISSING = object()


_allowed: ContextVar[frozenset[str]] = ContextVar("allowed", default=frozenset())


@contextmanager
def allow(packages: Iterable[str]) -> Iterator[None]:
    """Let names reach everything in `packages` (dotted names are fine), and find them in the current folder too.

    The folder goes to the end of the import path, so that a file in it never hides an installed package.
    """
    packages, here = frozenset(packages), str(Path.cwd())
    added = bool(packages) and here not in sys.path
    token = _allowed.set(_allowed.get() | packages)
    if added:
        sys.path.append(here)
    try:
        yield
    finally:
        _allowed.reset(token)
        if added:
            sys.path.remove(here)


def allowed_packages() -> list[str]:
    """Return the packages that are allowed now."""
    return sorted(_allowed.get())


def find(dotted: str, *, kind: Kind = "callable") -> Any:
    """Return the object of a dotted name, if a recipe may use it in a slot of this kind.

    Raises:
        RecipeError: There is no such name (the message has the nearest), or it may not be used here.
    """
    top, *names = dotted.split(".")
    if not names or not all(name.isidentifier() for name in (top, *names)):
        raise RecipeError(f"expected a dotted name such as 'torch.nn.Linear', got {dotted!r}")
    thing: Any = _package(dotted)
    for name in names:
        thing = _member(thing, name, dotted)
    if not _permitted(thing, dotted, kind):
        raise RecipeError(f"a recipe may not use {dotted} here: {_REASONS[kind]}. If you trust it, add --allow {top}")
    return thing


def build(node: Any, *args: Any, kind: Kind, **offered: Any) -> Any:
    """Call the function or class that a node names and return the result.

    Args:
        node: `{_target_: package.module.Name, option: value}`; nodes inside options are built first.
        args: Positional arguments before the node's own `_args_`, such as an optimizer's parameter groups.
        kind: Kind of the slot. It limits what may be called, and the result is checked.
        offered: Keyword arguments that are passed if the function names them and the node does not set them.

    Raises:
        RecipeError: The node names nothing usable, its options do not fit, or the call refuses them. Errors inside
            allowed packages, the user's own code, pass through unchanged.
    """
    function, own_args, options = _parse(node, kind)
    args = (*args, *_visit_inside(own_args, ("_args_",), build))
    options = {key: _visit_inside(value, (key,), build) for key, value in options.items()}
    options = {**_accepted(function, offered, len(args)), **options}
    dotted = node["_target_"]
    check_arguments(function, options, positional=len(args), name=dotted)
    result = _call(function, args, options, dotted)
    if not _RESULTS[kind][1](result):
        raise RecipeError(f"{dotted} gave {_short(result)}, which is not {_RESULTS[kind][0]}")
    return result


def check(node: Any, *args: Any, kind: Kind, **offered: Any) -> None:
    """Raise what `build` would raise, as far as can be known without a call; `args` may have any values."""
    function, own_args, options = _parse(node, kind)
    _visit_inside(own_args, ("_args_",), check)
    placeholders = {key: _visit_inside(value, (key,), check) for key, value in options.items()}
    positional = len(args) + len(own_args)
    options = {**_accepted(function, dict.fromkeys(offered, _MISSING), positional), **placeholders}
    check_arguments(function, options, positional=positional, name=node["_target_"])


def _parse(node: Any, kind: Kind) -> tuple[Callable[..., Any], list[Any], dict[str, Any]]:
    """Return the function of a node, its positional and its keyword arguments."""
    if not isinstance(node, Mapping) or not isinstance(node.get("_target_"), str):
        hint = f"{{_target_: {node}}}" if isinstance(node, str) else "{_target_: package.module.Name, ...}"
        misspelt = get_close_matches("_target_", map(str, node), n=1) if isinstance(node, Mapping) else ()
        raise RecipeError(f"expected a node such as {hint}, got {_short(node)}", path=tuple(misspelt))
    dotted, args = node["_target_"], node.get("_args_", [])
    function = find(dotted, kind=kind)
    if not callable(function):
        raise RecipeError(f"{dotted} cannot be called: it is {_short(function)}")
    options = {key: value for key, value in node.items() if key not in ("_target_", "_args_")}
    for key in options:
        if not isinstance(key, str) or (key.startswith("_") and key.endswith("_")):
            raise RecipeError(f"a node has no key {key!r}; besides options it takes _target_ and _args_", path=(key,))
    if not isinstance(args, list | tuple):
        raise RecipeError(f"_args_: expected a list, got {_short(args)}", path=("_args_",))
    if _may_unpickle(dotted, options):
        raise RecipeError("timm would unpickle what these options name, which can run code; use weights:")
    return function, list(args), options


def _visit_inside(value: Any, path: KeyPath, visit: Callable[..., Any]) -> Any:
    """Return a value with the nodes inside it built; or checked, with a placeholder for each."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            with at(*path):
                built = visit(value, kind="argument")
            return _MISSING if built is None else built
        return {key: _visit_inside(member, (*path, key), visit) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_visit_inside(member, (*path, index), visit) for index, member in enumerate(value)]
    return value


def _accepted(function: Callable[..., Any], offered: Mapping[str, Any], positional: int) -> dict[str, Any]:
    """Return the offered arguments that the function takes by name."""
    names = option_names(function, positional=positional) or ()
    return {key: value for key, value in offered.items() if key in names}


def _call(function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any], dotted: str) -> Any:
    try:
        return function(*args, **options)
    except CompressKitError:  # also a ValueError or LookupError, and says itself what is wrong
        raise
    except (TypeError, ValueError, LookupError, AssertionError, RuntimeError, FileNotFoundError) as error:
        if _is_allowed(dotted):  # the user's own code: its traceback says more than we could
            raise
        raise RecipeError(f"{dotted} refuses these options: {error}") from error


def _package(dotted: str) -> ModuleType:
    """Return the top-level package of a name, imported only if that is permitted."""
    top = dotted.partition(".")[0]
    if top in IMPORTABLE or _is_allowed(dotted):
        if top not in sys.modules and importlib.util.find_spec(top) is None:
            raise RecipeError(f"no package {top!r} is installed, for {dotted!r}")
        return importlib.import_module(top)
    if top in sys.modules:
        return sys.modules[top]
    if importlib.util.find_spec(top) is None and not Path(top).exists() and not Path(f"{top}.py").exists():
        raise RecipeError(f"no package {top!r} for {dotted!r}{close_names(top, IMPORTABLE)}")
    raise RecipeError(f"importing {dotted} would run code of {top!r}; if you trust it, add --allow {top}")


def _member(owner: Any, name: str, dotted: str) -> Any:
    """Return an attribute or a submodule of `owner`, imported if need be and permitted."""
    top = dotted.partition(".")[0]
    if not hasattr(owner, name) and isinstance(owner, ModuleType) and hasattr(owner, "__path__"):
        full = f"{owner.__name__}.{name}"
        if (top in IMPORTABLE or _is_allowed(full) or _is_allowed(dotted)) and importlib.util.find_spec(full):
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


def _permitted(thing: Any, dotted: str, kind: Kind) -> bool:
    if _is_allowed(dotted):
        return True
    if isinstance(thing, type) and issubclass(thing, _CLASSES[kind]):
        return True
    if any(name.startswith("_") for name in dotted.split(".")):
        return False
    home = str(getattr(thing, "__module__", None))
    if _within(home, _OPEN) and not _within(home, _CLOSED):
        return True
    if kind in ("module", "argument"):
        return any(_within(dotted, [b]) and _within(home, [b]) for b in ("torchvision.models", "timm"))
    functional = dotted.rpartition(".")[0] == "torch.nn.functional"
    return functional and kind == "callable" and not isinstance(thing, type | ModuleType)


def _may_unpickle(dotted: str, options: Mapping[str, Any]) -> bool:
    """Return whether timm would `torch.load` a file or a stranger's hub entry without `weights_only`."""
    if not _within(dotted, ["timm"]) or _is_allowed(dotted):
        return False
    return any(key.startswith(("checkpoint", "pretrained_cfg")) or ":" in str(options[key]) for key in options)


def _is_allowed(dotted: str) -> bool:
    return _within(dotted, _allowed.get())


def _within(dotted: str, packages: Iterable[str]) -> bool:
    return any(dotted == package or dotted.startswith(f"{package}.") for package in packages)


def _short(thing: Any) -> str:
    """Return a value in a few words, for a message."""
    text = repr(thing)
    return text if len(text) <= 60 else f"{text[:57]}..."
