"""Whether what a model says about a sample is a function of that sample alone."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from compresskit.errors import RecipeError
from compresskit.nested import copied, rows_of, tensors_in
from compresskit.randomness import rng_state

Run = Callable[[Any], Mapping[str, Tensor]]
"""Runs a model on a batch; gives its tensors by address."""


def check_deterministic(model: str, inputs: Any, count: int, run: Run) -> None:
    """See that a model's tensors are functions of one sample each, by the two halves of a batch.

    Args:
        model: Its name, for messages.
        inputs: A nested batch; it stays as it is.
        count: Samples in it.
        run: Runs the model.

    Raises:
        RecipeError: It draws random numbers, or a sample's tensors depend on the others of the batch.
    """
    before = rng_state()
    whole = {address: tensor.clone() for address, tensor in run(copied(inputs)).items()}
    if not _equal(before, rng_state()):
        raise RecipeError(
            f"cache: {model} draws random numbers even in eval mode, so what it says about a sample is not fixed",
            path=("cache",),
        )
    for half in (slice(count // 2), slice(count // 2, count)) if count > 1 else ():
        part = run(copied(rows_of(inputs, count, half)))
        for address, tensor in whole.items():
            if not _agree(tensor[half], part[address], _tolerance(tensor)):
                raise RecipeError(
                    f"cache: the tensor at {model}:{address} depends on more than one sample of a batch, so it cannot "
                    "be kept by sample",
                    path=("cache",),
                )


def _agree(ours: Tensor, theirs: Tensor, tolerance: float) -> bool:
    """Whether two tensors are the same up to a part of their largest finite value; not a number agrees with itself."""
    if ours.shape != theirs.shape:
        return False
    ours, theirs = ours.double(), theirs.double()
    largest = ours[ours.isfinite()].abs().max().item() if ours.isfinite().any() else 0.0
    return torch.allclose(ours, theirs, rtol=0.0, atol=tolerance * largest, equal_nan=True)


def _tolerance(tensor: Tensor) -> float:
    """How far other sizes of a batch, and so other roundings, may take a model."""
    if torch.is_autocast_enabled(tensor.device.type) or tensor.dtype in (torch.float16, torch.bfloat16):
        return 0.05
    return 0.005 if tensor.device.type == "cuda" else 0.0005  # convolutions on a GPU round to TF32


def _equal(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Whether nothing was drawn between two states of the generators."""
    tensors = zip(tensors_in(ours), tensors_in(theirs), strict=True)
    counts = [(state["python"], state["numpy"][2:]) for state in (ours, theirs)]
    return counts[0] == counts[1] and all(torch.equal(a, b) for a, b in tensors)
