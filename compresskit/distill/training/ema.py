"""Averaged weights: a copy of a model that follows its weights slowly, and their exchange for a while."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from compresskit.nested import parameters_and_buffers
from compresskit.restore import explain_copy_failure


def moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """Return a copy of `model` whose parameters follow its own slowly; call `.update_parameters(model)` after a step.

    The decay rises to its value over the first steps, as min(decay, (1 + n) / (10 + n)) at update n: otherwise a stage
    of a few hundred steps would end with an average of where it began. Buffers are those of the model.
    """
    with explain_copy_failure(model, "ema"):
        return AveragedModel(model, multi_avg_fn=_with_decay(decay), use_buffers=False)


@contextmanager
def exchanged_weights(model: nn.Module, other: nn.Module) -> Iterator[None]:
    """Exchange the parameters and buffers of two copies of a model inside the block."""
    pairs = list(zip(*map(parameters_and_buffers, (model, other)), strict=True))
    _swap(pairs)
    try:
        yield
    finally:
        _swap(pairs)


def _swap(pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
    for one, other in pairs:
        one.data, other.data = other.data, one.data


def _with_decay(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    @torch.no_grad()
    def average_into(averages: Sequence[Tensor], values: Sequence[Tensor], updates: Tensor | int) -> None:
        count = int(updates)
        share = 1 - min(decay, (1 + count) / (10 + count))
        for average, value in zip(averages, values, strict=True):
            if average.is_floating_point():
                average.lerp_(value, share)

    return average_into
