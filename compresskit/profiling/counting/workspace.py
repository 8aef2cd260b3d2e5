"""Memory that a convolution borrows on a CPU while it runs: oneDNN rearranges its operands into blocks of channels.

With channels last, oneDNN works on the operands as they are and rearranges only the weights. The rule was found by
watching torch's CPU allocator under oneDNN with AVX-512 (blocks of 16 channels) and AVX2 (blocks of 8). No document
promises it. Other processors, and operations that are not named here, count as borrowing nothing.
"""

from collections.abc import Sequence
from functools import cache
from math import prod
from typing import Any

import torch
from torch import Tensor

from compresskit.profiling.counting.formulas import operation_name

_BLOCKS = {"AVX512": 16, "AVX2": 8}
"""Channels in a block, by the instructions of the processor."""

_KEEPS_CHANNELS_LAST = {"convolution", "reflection_pad2d", "pixel_shuffle"}


def workspace_bytes(operation: Any, args: Sequence[Any], output: Any) -> int:
    """Return the bytes that an operation borrows on this machine's CPU beside its operands and results.

    Args:
        operation: Operation that torch dispatched.
        args: Positional arguments of the call.
        output: Result of the call.
    """
    if operation_name(operation) != "convolution" or not isinstance(output, Tensor) or not _block():
        return 0
    features, weight, stride = args[0], args[1], args[3]
    if prod(weight.shape[2:]) == 1 and set(stride) == {1}:  # a matrix product, on the tensors as they are
        return 0
    if features.dtype == torch.float64 or features.ndim > 4:  # not oneDNN: the windows of one sample are copied out
        return features.shape[1] * prod(weight.shape[2:]) * prod(output.shape[2:]) * features.element_size()
    if _is_channels_last(features) or _is_channels_last(weight):
        copies = sum(part.numel() * part.element_size() for part in (features, weight) if not _is_channels_last(part))
        return copies + _bytes_in_blocks(weight, 0)
    output_blocks = _bytes_in_blocks(output, 1)
    if features.shape[1] < _block():
        return output_blocks
    all_blocks = _bytes_in_blocks(features, 1) + _bytes_in_blocks(weight, 0, 1) + output_blocks
    return max(all_blocks - output.numel() * output.element_size(), output_blocks)


def with_cpu_layout(operation: Any, args: Sequence[Any], output: Any) -> Any:
    """Return the output in the layout that it has on a CPU: on the meta device some operations lose channels last."""
    if operation_name(operation) not in _KEEPS_CHANNELS_LAST or not isinstance(output, Tensor) or not output.is_meta:
        return output
    channels_last = any(_is_channels_last(part) for part in args[:2] if isinstance(part, Tensor)) and output.ndim == 4
    return output.contiguous(memory_format=torch.channels_last) if channels_last else output


def _is_channels_last(tensor: Tensor) -> bool:
    if tensor.ndim != 4 or tensor.is_contiguous():
        return False
    return tensor.is_contiguous(memory_format=torch.channels_last)


def _bytes_in_blocks(tensor: Tensor, *axes: int) -> int:
    """Return the bytes of a tensor whose size along these axes is rounded up to whole blocks."""
    shape = [-(-size // _block()) * _block() if axis in axes else size for axis, size in enumerate(tensor.shape)]
    return prod(shape) * tensor.element_size()


@cache
def _block() -> int:
    """Return the channels in a block; 0 if they are not known."""
    return _BLOCKS.get(torch.backends.cpu.get_cpu_capability(), 0) if torch.backends.mkldnn.is_available() else 0
