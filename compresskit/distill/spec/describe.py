"""Values of a stage as text that is the same in every process, to tell one run from another."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn

from compresskit.nodes import FORMER_NAMES

_NAMES_IN_CHECKPOINTS = {name: former for former, name in FORMER_NAMES.items()}
"""Former names by today's names: a checkpoint that was written before a move is still recognized."""


OMIT_NONE = {"omit_none": True}
"""Metadata of a field that the text leaves out where it is None: it came later than the first checkpoints."""


def describe(value: Any) -> str:
    """Return a text for a value of a stage: callables by their name, modules by their structure."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {describe(value[key])}" for key in sorted(value, key=str)) + "}"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(describe(item) for item in value) + "]"
    if isinstance(value, nn.Module):
        return repr(value)
    if fields := getattr(value, "__dataclass_fields__", None):
        values = {
            name: getattr(value, name)
            for name, field in fields.items()
            if not (field.metadata == OMIT_NONE and getattr(value, name) is None)
        }
        return f"{type(value).__name__}(" + ", ".join(f"{name}={describe(v)}" for name, v in values.items()) + ")"
    if isinstance(value, partial):
        return f"partial({describe(value.func)}, {describe(value.args)}, {describe(value.keywords)})"
    if callable(value):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    return repr(_NAMES_IN_CHECKPOINTS.get(value, value) if isinstance(value, str) else value)
