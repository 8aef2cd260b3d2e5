"""Multiply-accumulates of one forward pass, as one number."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from compresskit.profiling.counting.model_call import Call
from compresskit.profiling.counting.tracing_modes import observe


def count_macs(model: nn.Module, inputs: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> int:
    """Multiply-accumulates of one call in eval mode; one multiply-add is one MAC, two FLOPs.

    Convolutions, matrix products, attention and recurrent layers are counted; additions, norms and activations are not.
    The forward runs on a copy without weights, so it costs neither memory nor time and leaves the model as it is. A
    model whose Python looks at values runs once, for real. `profile` also tells what nobody counted.

    Args:
        model: Any module.
        inputs: Its positional inputs; only the shapes and types of their tensors matter.
        kwargs: Its keyword inputs.

    Raises:
        CompressKitError: The model does not take these inputs.
    """
    record = observe(model, Call.of(inputs, kwargs)).record
    return sum(operation.macs for operation in record.operations)
