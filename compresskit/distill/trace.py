"""One look at a model: the shapes at its taps and which parameters feed them. It leaves no mark on the model."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compresskit.data import own_randomness
from compresskit.distill.preserved import preserved
from compresskit.distill.taps import Taps


@dataclass(frozen=True, slots=True)
class Trace:
    """What one forward of a model showed."""

    shapes: dict[str, torch.Size]
    """The shape at each address."""
    feeds: dict[str, frozenset[str]]
    """Names of the parameters from which the tensor at each address is computed; empty without gradients."""
    overwritten: frozenset[str]
    """Addresses whose tensor is changed in place later in the forward."""


def trace(model: nn.Module, addresses: Collection[str], inputs: Any, *, train: bool) -> Trace:
    """Run `model` once on `inputs`, to its end, and note what is at `addresses`.

    Args:
        model: Left as it was: modes, buffers, gradients' flags and random generators included.
        addresses: Taps; a module that runs several times must say which call.
        inputs: A batch's inputs.
        train: Trace in training mode and with gradients, as a student runs; else in eval and without, as a teacher.

    Raises:
        TapError: An address names nothing or several tensors.
    """
    taps = Taps(model, addresses, stop=False)
    with preserved(taps.model, buffers=True), own_randomness(0), torch.set_grad_enabled(train):
        taps.model.train(train)
        for parameter in taps.model.parameters():
            parameter.requires_grad_(train and parameter.is_floating_point())
        with taps:
            taps.forward(inputs)
            shapes = {text: taps.peek(text).shape for text in taps}
            feeds = {text: frozenset(_feeding(taps.model, taps.peek(text)) if train else ()) for text in taps}
            return Trace(shapes, feeds, taps.overwritten())


def _feeding(model: nn.Module, tensor: Tensor) -> Iterator[str]:
    """Names of the parameters that the autograd graph of `tensor` ends in."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    if isinstance(tensor, nn.Parameter) and tensor in names:
        yield names[tensor]
    queue, seen = [tensor.grad_fn], set()
    while queue:
        node = queue.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(leaf := getattr(node, "variable", None), nn.Parameter) and leaf in names:
            yield names[leaf]
        queue.extend(following for following, _ in node.next_functions)
