"""Multiply-accumulates of one operation: torch's own formulas, and those that torch lacks.

torch registers the formulas of its FLOP counter. Fused recurrent layers, attention on the CPU and products with vectors
are missing there and would count as 0.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from torch import Tensor
from torch.utils.flop_counter import flop_registry

CONVENTION = (
    "1 MAC = 1 multiply + 1 add; FLOPs = 2 x MACs + element-wise FLOPs (listed apart); "
    "bias, norm and activation are not MACs; the batch is included; causal masks are not discounted"
)


def has_formula(operation: Any) -> bool:
    """Return whether `macs` knows an operation."""
    return operation_name(operation) in _FORMULAS or _packet(operation) in flop_registry


def macs(operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> int | None:
    """Return the multiply-accumulates of one call; None if there is no formula, or it does not take this call.

    Args:
        operation: Operation that torch dispatched.
        args: Positional arguments of the call.
        kwargs: Keyword arguments of the call.
        output: Result of the call.
    """
    own, registered = _FORMULAS.get(operation_name(operation)), flop_registry.get(_packet(operation))
    try:
        if own is not None:
            return own(*args, **kwargs)
        if registered is not None:
            return int(registered(*args, **kwargs, out_val=output)) // 2
    except (TypeError, ValueError, AssertionError, AttributeError):  # nested tensors, or arguments of a newer torch
        return None  # uncounted, and not an error
    return None


@cache
def operation_name(operation: Any) -> str:
    """Return the name of an operation: `add` for `aten.add_.Tensor`, `quantized.linear` for another library's."""
    library, _, name = str(_packet(operation)).rpartition(".")
    if library != "aten":
        return f"{library}.{name}".lstrip(".")
    return name if name.startswith("__") else name.rstrip("_")


def in_registry(name: str) -> bool:
    """Return whether torch's own counter knows the operation of this name."""
    return any(operation_name(packet) == name for packet in flop_registry)


def _packet(operation: Any) -> Any:
    return getattr(operation, "overloadpacket", operation)


def _mv(matrix: Tensor, _vector: Tensor) -> int:
    return matrix.numel()


def _addmv(_bias: Tensor, matrix: Tensor, _vector: Tensor, **_: Any) -> int:
    return matrix.numel()


def _dot(one: Tensor, _other: Tensor) -> int:
    return one.numel()


def _mm(left: Tensor, right: Tensor, *_args: Any, **_: Any) -> int:
    return left.numel() * right.shape[-1]


def _addmm(_bias: Tensor, left: Tensor, right: Tensor, *_args: Any, **_: Any) -> int:
    return left.numel() * right.shape[-1]


def _attention(query: Tensor, key: Tensor, value: Tensor, *_args: Any, **_: Any) -> int:
    """Count queries times keys and weights times values; a head of keys counts once for each query head it serves."""
    *heads, queries, width = query.shape
    scores = queries * key.shape[-2]
    for size in heads:
        scores *= size
    return scores * (width + value.shape[-1])


def _mkldnn_rnn(input: Tensor, input_weight: Tensor, hidden_weight: Tensor, *_args: Any, **_: Any) -> int:
    """Count one direction of one layer: every step multiplies by both matrices."""
    return _steps(input) * (input_weight.numel() + hidden_weight.numel())


def _fused_rnn(input: Tensor, weight: Sequence[Tensor], *_args: Any, **_: Any) -> int:
    """Count all layers and directions: every step multiplies by every matrix once. Biases are not matrices."""
    return _steps(input) * sum(part.numel() for part in weight if part.ndim > 1)


def _steps(sequence: Tensor) -> int:
    """Return the time steps of all samples of (time, batch, features), or of packed (steps, features)."""
    return sequence.shape[:-1].numel()


_FORMULAS: dict[str, Callable[..., int]] = {
    "mv": _mv,
    "addmv": _addmv,
    "dot": _dot,
    "vdot": _dot,
    "addbmm": _addmm,
    "_addmm_activation": _addmm,
    "_int_mm": _mm,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_fused_attention_overrideable": _attention,
    "mkldnn_rnn_layer": _mkldnn_rnn,
    "_cudnn_rnn": _fused_rnn,
    "miopen_rnn": _fused_rnn,
}
