"""Numbers that change over a stage: weights and options of terms, and learning rates."""

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from compresskit.errors import RecipeError, at, close_names, first_line
from compresskit.losses.catalogue import is_schedule
from compresskit.nodes import find
from compresskit.signature import check_arguments

SHAPES = ("linear", "cosine", "constant")


def check_schedule(value: Mapping[str, Any], name: str) -> None:
    """Raise a RecipeError that starts with `name` unless `value` is a valid schedule."""
    shape = value["schedule"]
    if callable(shape) or (isinstance(shape, str) and "." in shape):
        options = {key: option for key, option in value.items() if key != "schedule"}
        with at(name):
            check_arguments(_function_of(shape), options, positional=1, name=f"the schedule {shape}")
        return
    if shape not in SHAPES:
        raise RecipeError(
            f"{name}: unknown schedule {shape!r}{close_names(str(shape), SHAPES)}", path=(name, "schedule")
        )
    wanted = ("schedule", "start") if shape == "constant" else ("schedule", "start", "end")
    for key in value:
        if key not in ("schedule", "start", "end"):
            raise RecipeError(f"{name}: a schedule has no key {key!r}{close_names(str(key), wanted)}", path=(name, key))
    for key in wanted[1:]:
        if not is_number(value.get(key)):
            raise RecipeError(
                f"{name}: a {shape} schedule needs a number as {key!r}, got {value.get(key)!r}", path=(name, key)
            )


def value_at(value: Any, step: int, steps: int) -> Any:
    """Return a schedule's value at `step` of `steps`: `start` at the first step, `end` at the last.

    A value that is no schedule is returned as it is. A schedule of the user's own is any function of the progress from
    0 to 1, with the schedule's other keys as options.
    """
    if isinstance(value, (int, float)) or not is_schedule(value):  # numbers first, because every step comes here
        return value
    progress = step / (steps - 1) if steps > 1 else 0.0
    shape = value["schedule"]
    if shape not in SHAPES:
        options = {key: option for key, option in value.items() if key != "schedule"}
        return _own_value(shape, progress, options)
    start, end = float(value["start"]), float(value.get("end", value["start"]))
    share = {"linear": progress, "cosine": (1 - math.cos(math.pi * progress)) / 2, "constant": 0.0}[shape]
    return start + (end - start) * share


def _own_value(shape: Any, progress: float, options: Mapping[str, Any]) -> float:
    """Return the value of a function of the user's own, or one that a recipe names, which may be no schedule."""
    function = _function_of(shape)
    if callable(shape):
        return float(function(progress, **options))
    try:
        return float(function(progress, **options))
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise RecipeError(
            f"{shape} is no schedule: it takes a number from 0 to 1 and returns a number; {first_line(error)}"
        ) from error


def _function_of(shape: Any) -> Any:
    """Return the function of a schedule."""
    return shape if callable(shape) else _import_function(shape)


@cache
def _import_function(dotted: str) -> Any:  # cached because each step needs it
    return find(dotted, kind="schedule")


class WarmupCosine(LRScheduler):
    """A learning rate that rises linearly and then falls along half a cosine.

    Args:
        optimizer: The optimizer, whose own learning rate is the peak.
        total_steps: Optimizer steps of the rise and the fall together; a stage passes its own length.
        warmup: Share of the steps during which the rate rises, in [0, 1).
        final: Learning rate of the last step, as a share of the peak.

    Source: the decay is Loshchilov & Hutter, *SGDR*, ICLR 2017, equation 5, without restarts.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, warmup: float = 0.05, final: float = 0.0) -> None:
        if not 0 <= warmup < 1:
            raise RecipeError(f"WarmupCosine: warmup is a share of the steps in [0, 1), got {warmup!r}")
        self.total_steps = total_steps
        self.warmup_steps = round(warmup * total_steps)
        self.final = final
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rate of each parameter group at the present step."""
        return [base * self._factor(self.last_epoch) for base in self.base_lrs]

    def _factor(self, step: int) -> float:
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        left = max(1, self.total_steps - 1 - self.warmup_steps)
        progress = min(1.0, (step - self.warmup_steps) / left)
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * progress)) / 2


def is_number(value: Any) -> bool:
    """Return whether `value` is a finite number. True and False are not numbers."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 2**1023  # a larger one is no float
    return isinstance(value, float) and math.isfinite(value)
