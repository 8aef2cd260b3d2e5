"""Batches in groups: what one optimizer step consumes, on the right device, and where in the data it stands."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from compresskit.data import Batch, SampleId, endless
from compresskit.distill.numerics import Numerics
from compresskit.errors import DataError

Unpack = Callable[[Any], tuple[Any, Any]]


def unpack_batch(batch: Any) -> tuple[Any, Any]:
    """(inputs, targets) of a 2-sequence or of a mapping with these keys; a tensor, or a list of one, has no targets.

    Raises:
        DataError: The batch is neither; the message says what `unpack` is for.
    """
    if isinstance(batch, Mapping) and "inputs" in batch:
        return batch["inputs"], batch.get("targets")
    if isinstance(batch, Tensor):
        return batch, None
    if isinstance(batch, (tuple, list)) and len(batch) in (1, 2):
        return batch[0], batch[1] if len(batch) == 2 else None
    if hasattr(batch, "__iter__") and not isinstance(batch, (tuple, list, Mapping)):
        raise DataError(f"one batch is wanted, got a {type(batch).__name__}; if it gives batches: next(iter(loader))")
    found = f"keys {', '.join(map(str, batch))}" if isinstance(batch, Mapping) else type(batch).__name__
    found += f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
    raise DataError(
        f"a batch is (inputs, targets) or a mapping with the keys inputs and targets, got {found}; "
        "pass fit(..., unpack=function) to say which part is which"
    )


def moved(value: Any, device: torch.device) -> Any:
    """A nested batch on `device`, fit for autograd also where it was made in inference mode."""
    return _mapped(value, lambda t: (t.clone() if t.is_inference() else t).to(device, non_blocking=True))


def copied(value: Any) -> Any:
    """A nested batch with tensors of its own."""
    return _mapped(value, Tensor.clone)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors of a nested batch, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)


def _mapped(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """A nested batch with `function` of each tensor."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: _mapped(item, function) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_mapped(item, function) for item in value))
    if isinstance(value, (tuple, list)):
        return type(value)(_mapped(item, function) for item in value)
    return value


class Fed(NamedTuple):
    """One batch, ready for the models."""

    inputs: Any
    targets: Any
    samples: tuple[SampleId, ...] = ()
    """Which samples these are, where the loader tells."""


class Feed:
    """The training data from `position` on, without end.

    Args:
        loader: Anything that can be iterated again and again.
        position: Batches that were consumed before.
        seed: For the replay of loaders that draw from global generators.
        unpack: Makes (inputs, targets) of a batch; None follows the convention.
        device: Where the tensors go.
        numerics: In which memory format.
    """

    def __init__(
        self,
        loader: Iterable[Any],
        position: int,
        seed: int,
        unpack: Unpack | None,
        device: torch.device,
        numerics: Numerics,
    ) -> None:
        self.position = position
        self._batches = endless(loader, position, seed, pinned=device.type == "cuda")
        self._unpack = unpack or unpack_batch
        self._device, self._numerics = device, numerics
        self._ahead: Batch | None = None

    def peek(self) -> Fed:
        """The next batch, which stays the next one."""
        if self._ahead is None:
            self._ahead = next(self._batches)
        return self._ready(self._ahead)

    def take(self, count: int) -> list[Fed]:
        """The next `count` batches, or fewer where the epoch ends before."""
        group = []
        while len(group) < count:
            batch, self._ahead = self._ahead or next(self._batches), None
            group.append(self._ready(batch))
            self.position += 1
            if batch.last:
                break
        return group

    def _ready(self, batch: Batch) -> Fed:
        inputs, targets = self._unpack(batch.value)
        inputs = self._numerics.of(moved(inputs, self._device))
        return Fed(inputs, moved(targets, self._device), batch.samples)
