"""Single figures of one forward, for code that needs a number and no report."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from compresskit.profiling.counting.activations import activation_memory
from compresskit.profiling.counting.model_call import ModelCall
from compresskit.profiling.counting.tracing_modes import record_forward


def count_macs(model: nn.Module, inputs: Any = (), kwargs: Mapping[str, Any] | None = None) -> int:
    """Return the multiply-accumulates of one call in eval mode; one multiply-add is one MAC, two FLOPs.

    Convolutions, matrix products, attention and recurrent layers count; additions, norms and activations do not. The
    forward runs on a copy without values, so it takes neither memory nor time and does not change the model. A model
    whose Python reads values runs once, for real. `profile` also lists the operations that cannot be counted.

    Args:
        model: Any module.
        inputs: Positional inputs; only the shapes and types of their tensors matter.
        kwargs: Keyword inputs.

    Raises:
        CompressKitError: The model does not take these inputs.
    """
    return record_forward(model, ModelCall.of(inputs, kwargs)).macs


def peak_bytes(model: nn.Module, inputs: Any = (), kwargs: Mapping[str, Any] | None = None) -> int:
    """Return the most bytes that tensors take at one time in one call in eval mode, beside weights and inputs.

    The forward runs on shapes alone, at any size and in no memory. Memory that libraries allocate inside an operation
    is not included: convolutions on the CPU can double the figure.

    Args:
        model: Any module.
        inputs: Positional inputs; only the shapes and types of their tensors matter.
        kwargs: Keyword inputs.

    Raises:
        CompressKitError: The model does not take these inputs, or its Python reads values.
    """
    return activation_memory(record_forward(model, ModelCall.of(inputs, kwargs), device="meta")).peak
