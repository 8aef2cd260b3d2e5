"""What a convolution borrows on a CPU while it runs: oneDNN puts its operands into blocks of channels and back.

With channels last it works on them as they are, and puts only the weights into blocks. A rule found by watching torch's
CPU allocator under oneDNN with AVX-512 (blocks of 16 channels) and AVX2 (blocks of 8). No document promises it. Other
processors, and operations not named here, borrow nothing.
"""

from collections.abc import Sequence
from functools import cache
from math import prod
from typing import Any

import torch
from torch import Tensor

from compresskit.profiling.counting.formulas import operation_name

_BLOCKS = {"AVX512": 16, "AVX2": 8}


_KEEPS_CHANNELS_LAST = {"convolution", "reflection_pad2d", "pixel_shuffle"}


def workspace(operation: Any, args: Sequence[Any], output: Any) -> int:
    """Bytes that an operation takes on this machine's CPU beside its operands and results, and gives back.

    Args:
        operation: What torch dispatched.
        args: Its positional arguments.
        output: What it returned.
    """
    if operation_name(operation) != "convolution" or not isinstance(output, Tensor) or not _block():
        return 0
    given, weight, stride = args[0], args[1], args[3]
    if prod(weight.shape[2:]) == 1 and set(stride) == {1}:  # a matrix product, on the tensors as they are
        return 0
    if given.dtype == torch.float64 or given.ndim > 4:  # not oneDNN's: the windows are copied out, for one sample
        return given.shape[1] * prod(weight.shape[2:]) * prod(output.shape[2:]) * given.element_size()
    if _channels_last(given) or _channels_last(weight):
        copied = sum(part.numel() * part.element_size() for part in (given, weight) if not _channels_last(part))
        return copied + _blocked(weight, 0)
    blocked_output = _blocked(output, 1)
    if given.shape[1] < _block():
        return blocked_output
    inside = _blocked(given, 1) + _blocked(weight, 0, 1) + blocked_output
    return max(inside - output.numel() * output.element_size(), blocked_output)


def laid_out_as_on_a_cpu(operation: Any, args: Sequence[Any], output: Any) -> Any:
    """The output in the layout that it has on a CPU: on the meta device these operations forget channels last."""
    if operation_name(operation) not in _KEEPS_CHANNELS_LAST or not isinstance(output, Tensor) or not output.is_meta:
        return output
    kept = any(_channels_last(part) for part in args[:2] if isinstance(part, Tensor)) and output.ndim == 4
    return output.contiguous(memory_format=torch.channels_last) if kept else output


def _channels_last(tensor: Tensor) -> bool:
    flat = tensor.ndim != 4 or tensor.is_contiguous()
    return not flat and tensor.is_contiguous(memory_format=torch.channels_last)


def _blocked(tensor: Tensor, *axes: int) -> int:
    """Bytes of a tensor whose size along these axes is rounded up to whole blocks."""
    shape = [-(-size // _block()) * _block() if axis in axes else size for axis, size in enumerate(tensor.shape)]
    return prod(shape) * tensor.element_size()


@cache
def _block() -> int:
    """Channels in a block, 0 where we do not know."""
    return _BLOCKS.get(torch.backends.cpu.get_cpu_capability(), 0) if torch.backends.mkldnn.is_available() else 0
