"""One look at the models: the shapes at their taps and which parameters feed them. It leaves no mark on them."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from compresskit.distill.objective.models import Models, qualified
from compresskit.distill.taps.restore import preserved
from compresskit.distill.taps.taps import Taps, check_call, writes_into
from compresskit.nested import copied, tensors_in
from compresskit.randomness import own_randomness


@dataclass(frozen=True, slots=True)
class Trace:
    """What one forward of a model showed."""

    shapes: dict[str, torch.Size]
    """The shape at each address."""
    dtypes: dict[str, torch.dtype]
    """The type at each address."""
    feeds: dict[str, frozenset[str]]
    """Names of the learners' parameters from which the tensor at each address is computed."""
    overwritten: frozenset[str]
    """Addresses whose tensor is changed in place later in the forward."""
    writes: bool
    """Whether the model writes into its inputs."""
    counts: frozenset[str] = frozenset()
    """Attributes, as `module.path.name`, that hold a whole number and held another one before the forward."""

    def empty(self, address: str) -> Tensor:
        """A tensor of the shape and type at an address, without values."""
        return torch.empty(self.shapes[address], dtype=self.dtypes[address], device="meta")


@contextmanager
def tracing(models: Models, learners: Collection[str], others: Collection[str] = ()) -> Iterator[dict[Tensor, str]]:
    """Inside, models may be run as they would be in training, and are put back on the way out.

    Learners run in training mode, with gradients for all parameters, others in eval mode. Buffers, modes, flags and
    random generators are restored.

    Yields:
        The names of the learners' parameters.
    """
    chosen = {name: models.module(name) for name in dict.fromkeys((*learners, *others))}
    with preserved(*chosen.values(), buffers=True), own_randomness(0):
        names: dict[Tensor, str] = {}
        for name, model in chosen.items():
            model.train(name in learners)
            for path, parameter in model.named_parameters():
                parameter.requires_grad_(name in learners and parameter.is_floating_point())
                if name in learners:
                    names[parameter] = qualified(name, path)
        yield names


def observe(taps: Taps, inputs: Any, names: Mapping[Tensor, str]) -> Trace:
    """Run a model once, to its end, and note what is at its taps. Inside `tracing` and inside `with taps`.

    Raises:
        TapError: An address names nothing or several tensors.
    """
    check_call(taps.model, inputs)
    inputs = copied(inputs)
    versions = [writes_into(tensor) for tensor in tensors_in(inputs)]
    numbers = _whole_numbers(taps.model)
    with torch.set_grad_enabled(bool(names)):
        taps.forward(inputs)
    return Trace(
        {text: taps.raw(text).shape for text in taps},
        {text: taps.raw(text).dtype for text in taps},
        {text: frozenset(_feeding(taps.raw(text), names)) for text in taps},
        taps.overwritten(),
        versions != [writes_into(tensor) for tensor in tensors_in(inputs)],
        frozenset(name for name, _ in _whole_numbers(taps.model) - numbers),
    )


def _whole_numbers(model: nn.Module) -> set[tuple[str, int]]:
    """The attributes of a model's modules that hold a whole number, by `module.path.name`."""
    return {
        (f"{path}.{name}", value)
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, int)
    }


def feeding(models: Models, addresses: Mapping[str, Collection[str]], inputs: Any) -> set[str]:
    """Names of the parameters that feed some taps of some models, all of which learn."""
    found: set[str] = set()
    for name, texts in addresses.items():
        with tracing(models, [name]) as names, Taps(models.module(name), texts, stop=False) as taps:
            seen = observe(taps, models.view(name, inputs), names)
        found |= {parameter for fed in seen.feeds.values() for parameter in fed}
    return found


def _feeding(tensor: Tensor, names: Mapping[Tensor, str]) -> Iterator[str]:
    """Names of the parameters that the autograd graph of `tensor` ends in."""
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
        for module in _modules_of(getattr(node, "run_function", None)):  # reentrant checkpointing hides its graph
            yield from (names[parameter] for parameter in module.parameters() if parameter in names)
        queue.extend(following for following, _ in node.next_functions)


def _modules_of(function: Any) -> Iterator[nn.Module]:
    """The modules that a function may call: itself, its object, what it closes over."""
    if isinstance(function, nn.Module):
        yield function
    elif isinstance(function, partial):
        for part in (function.func, *function.args):
            yield from _modules_of(part)
    elif callable(function):
        closed = (cell.cell_contents for cell in getattr(function, "__closure__", None) or ())
        for part in (getattr(function, "__self__", None), *closed):
            if isinstance(part, nn.Module):
                yield part
