"""Values of a stage as text that is the same in every process, to tell one run from another."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn

FORMER_NAMES = {"compresskit.schedules.WarmupCosine": "compresskit.distill.schedules.WarmupCosine"}
"""Names that checkpoints of before a move hold, by today's names: their runs can still be continued."""


def describe(value: Any) -> str:
    """Return a text for a value of a stage: callables by their name, modules by their structure."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {describe(value[key])}" for key in sorted(value, key=str)) + "}"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(describe(item) for item in value) + "]"
    if isinstance(value, nn.Module):
        return repr(FORMER_NAMES.get(value, value) if isinstance(value, str) else value)
    if fields := getattr(value, "__dataclass_fields__", None):
        return (
            f"{type(value).__name__}(" + ", ".join(f"{name}={describe(getattr(value, name))}" for name in fields) + ")"
        )
    if isinstance(value, partial):
        return f"partial({describe(value.func)}, {describe(value.args)}, {describe(value.keywords)})"
    if callable(value):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    return repr(FORMER_NAMES.get(value, value) if isinstance(value, str) else value)
