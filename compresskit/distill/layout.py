"""The order in which images' weights lie in memory, for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn


@contextmanager
def channels_last(*models: nn.Module) -> Iterator[None]:
    """Inside, four-dimensional weights and buffers lie channels last; then each is again as it was."""
    moved = [tensor for tensor in dict.fromkeys(chain(*map(_tensors, models))) if _moves(tensor)]
    _lay_out(moved, torch.channels_last)
    try:
        yield
    finally:
        _lay_out(moved, torch.contiguous_format)


def lay_out_like(copy: nn.Module, model: nn.Module) -> None:
    """Give the weights and buffers of a copy, made inside `channels_last`, the order of the model's own."""
    pairs = zip(_tensors(copy), _tensors(model), strict=True)
    _lay_out([ours for ours, theirs in pairs if ours.stride() != theirs.stride() and theirs.is_contiguous()])


def _moves(tensor: Tensor) -> bool:
    if tensor.dim() != 4 or tensor.layout != torch.strided or not tensor.is_contiguous():
        return False
    return tensor.detach().to(memory_format=torch.channels_last).stride() != tensor.stride()  # 1x1: both at once


def _lay_out(tensors: list[Tensor], memory_format: torch.memory_format = torch.contiguous_format) -> None:
    for tensor in tensors:
        tensor.data = tensor.data.to(memory_format=memory_format)


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()
