"""Element-wise FLOPs of one operation: the work outside of matrix products.

A pointwise operation costs one FLOP per element of its output, whatever the function. Tables hold the cost of other
operations; those that only move data are free. An operation in no table is unknown, and the report lists it.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from math import prod
from typing import Any

import torch
from torch import Tensor

from compresskit.nested import tensors_in
from compresskit.profiling.counting.formulas import operation_name

_OWN_STATISTICS = 6
"""FLOPs per element of a norm that computes its statistics: sum; difference, square, sum; scale, shift."""

_STORED_STATISTICS = 2
"""FLOPs per element of a norm with stored statistics: scale, shift."""

_PER_INPUT = {
    **dict.fromkeys(("sum", "nansum", "mean", "prod", "cumsum", "cumprod", "logcumsumexp", "any", "all"), 1),
    **dict.fromkeys(("amax", "amin", "aminmax", "max", "min", "argmax", "argmin", "median"), 1),
    **dict.fromkeys(("var", "std", "var_mean", "std_mean", "logsumexp", "_weight_norm_interface"), 4),
    **dict.fromkeys(("linalg_vector_norm", "norm"), 2),
    **dict.fromkeys(("_softmax", "_log_softmax", "_safe_softmax", "_masked_softmax"), 5),  # max, minus, exp, sum, over
    **dict.fromkeys(("native_layer_norm", "native_group_norm"), _OWN_STATISTICS),
    "_fused_rms_norm": 4,  # square, sum, scale, weight
    **dict.fromkeys(("_native_batch_norm_legit_no_training", "_batch_norm_no_update"), _STORED_STATISTICS),
    "_batch_norm_with_update": _OWN_STATISTICS,
    **dict.fromkeys(("_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_max_pool2d", "adaptive_max_pool3d"), 1),
    "col2im": 1,
}
"""FLOPs per element of the input."""

_PER_OUTPUT = {
    **dict.fromkeys(("hardswish", "hardsigmoid", "glu", "prelu", "_prelu_kernel", "celu", "rrelu", "log_sigmoid"), 1),
    **dict.fromkeys(("native_dropout", "addr", "linspace", "floor", "cross", "log_sigmoid_forward"), 1),
    **dict.fromkeys(("scatter_add", "index_add", "scatter_reduce", "renorm"), 1),
    **dict.fromkeys(("_thnn_fused_lstm_cell", "_thnn_fused_gru_cell"), 12),
    "upsample_linear1d": 3,
    **dict.fromkeys(("upsample_bilinear2d", "grid_sampler_2d"), 7),  # four products, three sums
    **dict.fromkeys(("upsample_trilinear3d", "grid_sampler_3d"), 15),
    "upsample_bicubic2d": 31,
}
"""FLOPs per element of the output."""

_POOLS = (
    *("avg_pool2d", "avg_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices"),
    *("mkldnn_max_pool2d", "mkldnn_max_pool3d", "quantized_max_pool2d"),
)
"""Pools: for each element of the output as many FLOPs as the kernel has elements."""

_BATCH_NORMS = ("native_batch_norm", "_native_batch_norm_legit", "cudnn_batch_norm", "miopen_batch_norm")

_FREE = frozenset(
    (
        # copies and casts
        *("clone", "copy", "_to_copy", "lift_fresh", "lift", "contiguous", "_conj_physical", "resolve_conj"),
        *("_unsafe_view", "_reshape_alias", "unsafe_split", "unsafe_split_with_sizes", "unsafe_chunk", "view_copy"),
        # rearrangement and borders
        *("cat", "stack", "repeat", "roll", "flip", "tril", "triu", "pixel_shuffle", "pixel_unshuffle", "im2col"),
        *("constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "channel_shuffle"),
        *("replication_pad1d", "replication_pad2d", "replication_pad3d", "max_unpool2d", "max_unpool3d", "rot90"),
        *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "diag_embed", "native_channel_shuffle"),
        *("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d"),
        # selection
        *("index", "_unsafe_index", "index_select", "gather", "embedding", "index_put", "_unsafe_index_put", "take"),
        *("scatter", "masked_select", "masked_scatter", "index_copy", "index_fill", "slice_scatter", "select_scatter"),
        *("nonzero", "one_hot"),
        # new tensors
        *("empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided", "zeros"),
        *("zeros_like", "new_zeros", "ones", "ones_like", "new_ones", "full", "full_like", "new_full", "fill", "zero"),
        *("arange", "eye", "scalar_tensor", "rand", "rand_like", "randn", "randn_like", "randint", "randperm"),
        *("bernoulli", "uniform", "normal", "exponential", "set", "resize", "randint_like"),
        # values and properties that Python reads
        *("_local_scalar_dense", "is_nonzero", "equal", "is_same_size", "_linalg_check_errors", "_assert_async"),
        *(
            "_assert_tensor_metadata",
            "prim.device",
            "prim.layout",
            "sym_size",
            "sym_numel",
            "sym_stride",
            "record_stream",
        ),
        *("_nested_tensor_size", "is_pinned", "detach", "alias"),
    )
)


def elementwise_flops(operation: Any, args: Sequence[Any], output: Any) -> int | None:
    """Return the element-wise FLOPs of one call; None for an operation that is in no table.

    Args:
        operation: Operation that torch dispatched.
        args: Positional arguments of the call.
        output: Result of the call.
    """
    name = operation_name(operation)
    if name in _FREE or is_view(operation):
        return 0
    if name in _BATCH_NORMS:
        return _numel(args) * (_OWN_STATISTICS if _computes_statistics(operation, args) else _STORED_STATISTICS)
    if name in _PER_INPUT:
        return _numel(args) * _PER_INPUT[name]
    if name in _POOLS:
        return _numel(output) * _window(args)
    if name in _PER_OUTPUT or _is_pointwise(operation):
        return _numel(output) * _PER_OUTPUT.get(name, 1)
    return None


def is_view(operation: Any) -> bool:
    """Return whether an operation returns a view: its outputs alias an input and write nothing."""
    if torch.Tag.inplace_view in getattr(operation, "tags", ()):
        return True
    schema = getattr(operation, "_schema", None)
    aliases = [returned.alias_info for returned in schema.returns] if schema is not None else []
    return any(alias is not None and not alias.is_write for alias in aliases)


def accesses_memory(operation: Any) -> bool:
    """Return whether an operation reads or writes memory: views do not, nor do tensors that are not filled yet."""
    return not is_view(operation) and operation_name(operation) not in _WITHOUT_ACCESS


_WITHOUT_ACCESS = (
    "empty",
    "empty_like",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
    "_unsafe_view",
    "unsafe_split",
)


@cache
def _is_pointwise(operation: Any) -> bool:
    """Return whether torch tags an operation, or a variant of it, as pointwise: some in-place variants lack the tag."""
    function = getattr(torch.ops.aten, operation_name(operation), None)
    variants = [getattr(function, name) for name in function.overloads()] if function is not None else []
    return any(torch.Tag.pointwise in getattr(variant, "tags", ()) for variant in (operation, *variants))


def _numel(value: Any) -> int:
    """Return the number of elements of the first tensor."""
    return next((tensor.numel() for tensor in tensors_in(value)), 0)


def _computes_statistics(operation: Any, args: Sequence[Any]) -> bool:
    """Return whether a batch norm, or an instance norm that torch runs as one, computes its statistics itself."""
    no_stats = getattr(operation, "_overloadname", "") == "no_stats"
    return no_stats or (len(args) > 5 and args[5] is True)


def _window(args: Sequence[Any]) -> int:
    """Return the number of elements under the kernel of a pool."""
    pooled, kernel = args[0], args[1]
    sides = list(kernel) if isinstance(kernel, Iterable) else [kernel]
    spatial = pooled.ndim - 2 if isinstance(pooled, Tensor) and pooled.ndim > 3 else 2
    return prod(sides) if len(sides) > 1 else sides[0] ** spatial
