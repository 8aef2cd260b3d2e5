"""The check that a model's tensors for a sample are a function of that sample alone."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from compresskit.distill.cache.options import CacheError
from compresskit.distill.samples import rows_of
from compresskit.nested import clone_tensors, tensors_in
from compresskit.randomness import rng_state

Run = Callable[[Any], Mapping[str, Tensor]]
"""Runs a model on a batch and returns its tensors by address."""


def check_deterministic(model: str, inputs: Any, count: int, run: Run) -> None:
    """Check on the two halves of a batch that a model's tensors are functions of one sample each.

    Args:
        model: The model's name, for messages.
        inputs: Nested batch, which stays as it is.
        count: Number of samples in the batch.
        run: Function that runs the model.

    Raises:
        CacheError: The model draws random numbers, or a sample's tensors depend on the others of the batch.
    """
    before = rng_state()
    whole = {address: tensor.clone() for address, tensor in run(clone_tensors(inputs)).items()}
    if not _same_state(before, rng_state()):
        raise CacheError.because(
            f"{model} draws random numbers even in eval mode, so its tensors for a sample are not fixed"
        )
    for half in (slice(count // 2), slice(count // 2, count)) if count > 1 else ():
        part = run(clone_tensors(rows_of(inputs, count, half, at_top=True, shared=True)))
        for address, tensor in whole.items():
            if not _agree(tensor[half], part[address], _tolerance(tensor)):
                raise CacheError.because(
                    f"the tensor at {model}:{address} depends on more than one sample of a batch, so it cannot be kept "
                    "by sample"
                )


def _agree(ours: Tensor, theirs: Tensor, tolerance: float) -> bool:
    """Return whether two tensors are equal up to a part of their largest finite value; NaN equals NaN."""
    if ours.shape != theirs.shape:
        return False
    ours, theirs = ours.double(), theirs.double()
    largest = ours[ours.isfinite()].abs().max().item() if ours.isfinite().any() else 0.0
    return torch.allclose(ours, theirs, rtol=0.0, atol=tolerance * largest, equal_nan=True)


def _tolerance(tensor: Tensor) -> float:
    """Return the relative difference that another batch size, and so another rounding, may cause."""
    if torch.is_autocast_enabled(tensor.device.type) or tensor.dtype in (torch.float16, torch.bfloat16):
        return 0.05
    return 0.005 if tensor.device.type == "cuda" else 0.0005  # convolutions on a GPU round to TF32


def _same_state(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Return whether two states of the random generators are equal, so that nothing was drawn between them."""
    tensors = zip(tensors_in(ours), tensors_in(theirs), strict=True)
    counts = [(state["python"], state["numpy"][2:]) for state in (ours, theirs)]
    return counts[0] == counts[1] and all(torch.equal(a, b) for a, b in tensors)
