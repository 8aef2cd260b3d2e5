"""Counts of work: multiply-accumulates of one forward pass."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def count_macs(model: nn.Module, inputs: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> int:
    """Multiply-accumulates of one call in eval mode; one multiply-add is one MAC, two FLOPs.

    Convolutions, matrix products and attention are counted (torch's counter); additions, norms and activations are
    not. The forward runs on a copy on the meta device, so it costs neither memory nor time and leaves the model as it
    is. A model that makes tensors on a device of its own choice runs once, on the CPU.

    Args:
        model: Any module.
        inputs: Its positional inputs; only the shapes and types of their tensors matter.
        kwargs: Its keyword inputs.
    """
    try:
        return _count(model, inputs, kwargs or {}, "meta")
    except (RuntimeError, NotImplementedError):  # devices mixed, or an operator without a meta implementation
        return _count(model, inputs, kwargs or {}, "cpu")


def _count(model: nn.Module, inputs: Sequence[Any], kwargs: Mapping[str, Any], device: str) -> int:
    copied = copy.deepcopy(model).to(device).eval()
    args = [_on(device, value) for value in inputs]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        copied(*args, **{name: _on(device, value) for name, value in kwargs.items()})
    return counter.get_total_flops() // 2


def _on(device: str, value: Any) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value
