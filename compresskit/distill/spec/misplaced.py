"""Arguments given to the wrong one of several objects, as in `fit(epochs=3)`: the message says where they belong."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import ParamSpec, TypeVar

from compresskit.errors import ArgumentError, close_names

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type)

_OPTIMIZER = "an option of the stage's optimizer: Stage(…, optimizer={'_target_': 'torch.optim.AdamW', '%s': …})"
_STAGE = "a field of Stage: Stage(…, %s=…)"
_DISTILLER = "an argument of ProgressiveDistiller(…, %s=…)"
_FIT = "an argument of fit(…, %s=…)"
_TERM = "an argument of Match and Task: Match('layer1', %s=…)"
_LOADER = "a matter of the loader: DataLoader(dataset, %s=…)"

_HOMES: Mapping[str, str] = {
    **dict.fromkeys(("lr", "learning_rate", "weight_decay", "momentum", "betas", "eps", "nesterov"), _OPTIMIZER),
    **dict.fromkeys(("epochs", "steps", "optimizer", "scheduler", "clip", "accumulate", "ema", "train"), _STAGE),
    **dict.fromkeys(("freeze", "matches", "tasks", "every", "best", "until", "groups", "splices"), _STAGE),
    **dict.fromkeys(("stages", "seed", "device", "precision", "compile", "cache", "out", "views"), _DISTILLER),
    **dict.fromkeys(("evaluate", "resume", "unpack", "val_loader", "train_loader", "trace"), _FIT),
    **dict.fromkeys(("loss", "weight", "adapter", "teacher", "student", "target", "temperature"), _TERM),
    **dict.fromkeys(("batch_size", "shuffle", "num_workers", "workers"), _LOADER),
}
"""The right place of an argument, by its name."""


def home_of(name: str) -> str:
    """Return a sentence's end about where an argument belongs; empty if it is unknown."""
    home = _HOMES.get(name, "")
    return f"; it is {home % ('lr' if name == 'learning_rate' else name)}" if home else ""


def checked_names(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that refuses unknown keyword arguments with a hint to where they belong."""
    known = [p.name for p in inspect.signature(function).parameters.values() if p.name != "self"]
    title = function.__qualname__.removesuffix(".__init__")

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in known:
                hint = home_of(name) or close_names(name, known)
                raise ArgumentError(f"{title} has no argument {name!r}{hint}")
        return function(*args, **kwargs)

    return checked


def checked_init(cls: C) -> C:
    """Return a class whose constructor refuses unknown keyword arguments with a hint to where they belong."""
    cls.__init__ = checked_names(cls.__init__)
    return cls


def counted_in_steps(curriculum: Callable[P, R]) -> Callable[P, R]:
    """Return a curriculum that refuses epochs, and fields that no stage has."""
    name = curriculum.__name__

    @wraps(curriculum)
    def counted(*args: P.args, **kwargs: P.kwargs) -> R:
        if "epochs" in kwargs:
            steps = f"a curriculum counts in steps, as in {name}(…, steps=500)"
            raise ArgumentError(f"{name} has no argument 'epochs': {steps}")
        return curriculum(*args, **kwargs)

    return counted
