"""The positions that a term's loss compares: its mask, and their number, which is the weight of a batch in a mean.

A position is one token, pixel or sample: a vector of channels or classes. A loss that compares position by position
gets the kept ones as rows (kept, channels), so that its mean is over these alone. In a step of several batches, or of
several processes, each batch then counts by its kept positions, and these have to be known before the first backward:
they are read from the mask, the labels, or the lengths of the inputs. What a forward shows later is compared with them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from compresskit import nodes
from compresskit.distill.spec.mask import MaskText, parse_mask
from compresskit.distill.spec.match import Match, Task, takes_mask
from compresskit.distill.taps.locate import select
from compresskit.errors import DataError, RecipeError, ShapeError, TapError, at, close_names, within
from compresskit.losses.checks import channel_axis, class_axis
from compresskit.losses.entry import Entry

IGNORED = -100
"""Label that torch's cross entropy leaves out by default."""


class Parts(Mapping[Any, Any]):
    """A batch as a mask reads it: the keys of its inputs and targets, `inputs` and `targets`, or 0 and 1."""

    def __init__(self, inputs: Any, targets: Any) -> None:
        self._parts = {0: inputs, 1: targets, "inputs": inputs, "targets": targets}
        for part in (targets, inputs):
            if isinstance(part, Mapping):
                self._parts |= part

    def __getitem__(self, key: Any) -> Any:
        return self._parts[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


class Length(NamedTuple):
    """The positions of one sample, from a tensor of the batch's inputs."""

    tensor: int
    """Number of the tensor among those of the inputs."""
    offset: int
    """Positions more than the tensor's second dimension."""


class Positions:
    """The positions of one term.

    Args:
        spec: Match or task.
        entry: Its loss.
        shape: Traced shape of the student's tensor.
        inputs: Inputs of the traced batch.

    Raises:
        RecipeError: The mask's node cannot be built, or the loss does not compare position by position.
        ShapeError: The dimension of the classes is not known.
    """

    def __init__(self, spec: Match | Task, entry: Entry, shape: torch.Size, inputs: Any) -> None:
        self._spec, self._entry = spec, entry
        self.passes_mask = takes_mask(entry)
        self.mask = _reader(spec.mask)
        """Function that reads the mask of a batch, or None if all positions count."""
        if self.mask is not None and not self.passes_mask and entry.by_position is False:
            raise RecipeError(
                f"mask: {entry.name} does not compare position by position, so it cannot leave some out", path=("mask",)
            )
        self._ignored = int(spec.options.get("ignore_index", IGNORED)) if _reads_labels(spec, entry) else None
        self._places = _places(shape, self._axis(shape))
        self._length = _length_of(self._places, inputs) if len(self._places) == 2 else None

    def rows(self, arguments: Sequence[Any], parts: Parts) -> list[Any]:
        """Return a loss's arguments with the kept positions only, as rows."""
        student = arguments[0]
        axis = self._axis(student.shape)
        places = _places(student.shape, axis)
        mask = _fitted(self._read(parts, student), places, student.shape, axis)
        index = mask.flatten().nonzero()[:, 0]
        return [_kept(argument, places, student.shape, axis, index) for argument in arguments]

    def whole_mask(self, student: Tensor, parts: Parts) -> Tensor:
        """Return the mask as true and false for each position, for a loss that takes it itself."""
        axis = self._axis(student.shape)
        return _fitted(self._read(parts, student), _places(student.shape, axis), student.shape, axis)

    def count(self, parts: Parts, target: Any, samples: int) -> int:
        """Return the number of positions of a batch that count, or what grows with it from batch to batch.

        Args:
            parts: The batch.
            samples: Number of its samples.
            target: The term's own target: its labels may leave positions out.
        """
        kept = None if self.mask is None else self._read(parts, None)
        if self._ignored is not None and isinstance(target, Tensor) and not target.is_floating_point():
            counts = target != self._ignored
            if kept is not None:
                kept = self._without_channels(kept.to(counts.device), counts.dim())
                counts = counts & _fitted(kept, counts.shape, counts.shape, None)
            return int(counts.sum())
        places = self._expected_places(parts, samples)
        if kept is None:
            return prod(places)
        kept = self._without_channels(kept, len(places))
        return int(kept.sum()) * prod(places[dim] for dim in _broadcast(kept, places))

    def check(self, shape: torch.Size, parts: Parts) -> None:
        """Check that a forward gave as many positions a sample as were counted before it.

        Raises:
            ShapeError: It gave others.
        """
        if self._ignored is not None:
            return
        places = _places(shape, self._axis(shape))
        expected = self._expected_places(parts, places[0])
        if self.mask is None:
            differ = places[0] != expected[0] or prod(places[1:]) != prod(expected[1:])
        else:
            mask = self._without_channels(self._read(parts, None), len(places))
            differ = len(places) != len(expected) or any(places[d] != expected[d] for d in _broadcast(mask, places))
        if differ:
            raise ShapeError(
                f"batches of other lengths share a mean, here of {tuple(shape)}, and it is not known how many "
                "positions each has: say which count, as in mask='attention_mask'"
            )

    def _expected_places(self, parts: Parts, samples: int) -> tuple[int, ...]:
        """Return the shape of a batch's positions before its forward: by the lengths of an input, or else as traced."""
        tensors = list(_arguments(parts["inputs"]))
        if self._length is None or len(tensors) <= self._length.tensor or tensors[self._length.tensor].dim() < 2:
            return samples, *self._places[1:]
        tensor = tensors[self._length.tensor]
        return tensor.shape[0], tensor.shape[1] + self._length.offset

    def _without_channels(self, mask: Tensor, dims: int) -> Tensor:
        """Return a mask that has the channels' dimension, with size 1, without it; `dims` is that of the positions."""
        axis = self._axis(mask.shape) if mask.dim() == dims + 1 else None
        return mask if axis is None or mask.shape[axis] != 1 else mask.squeeze(axis)

    @property
    def decides_weight(self) -> bool:
        """True if a batch weighs by its positions; False if by its samples, as images do."""
        explicit = self.mask is not None or "ignore_index" in self._spec.options
        return explicit or (len(self._places) == 2 and bool(self._entry.by_position))

    def _axis(self, shape: torch.Size) -> int | None:
        if len(shape) < 2:
            return None
        if self._entry.logits:
            return class_axis(shape, self._spec.options.get("dim"), loss=self._entry.name)
        return channel_axis(torch.empty(shape, device="meta"))

    def _read(self, parts: Parts, student: Tensor | None) -> Tensor:
        """Return the mask of a batch as true and false."""
        assert self.mask is not None
        mask = self.mask(parts)
        if not isinstance(mask, Tensor) or mask.is_floating_point() or mask.is_complex() or not mask.dim():
            kind = f"{mask.dtype} of {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
            raise DataError(f"a mask is a tensor of true and false, or of 1 and 0 as whole numbers; this one is {kind}")
        return (mask != 0).to(mask.device if student is None else student.device)


def _reads_labels(spec: Match | Task, entry: Entry) -> bool:
    return isinstance(spec, Task) and entry.name == "cross_entropy" and entry.logits


def _reader(mask: Any) -> Callable[[Parts], Any] | None:
    if mask is None:
        return None
    if isinstance(mask, str):
        parsed = parse_mask(mask)
        return lambda parts: _named(parts, parsed)
    if isinstance(mask, Mapping):
        with at("mask"):
            return nodes.build(mask, kind="callable")
    return mask


def _named(parts: Parts, mask: MaskText) -> Tensor:
    value: Any = parts
    for key in mask.keys:
        if not isinstance(value, Mapping) or key not in value:
            known = [name for name in value if isinstance(name, str)] if isinstance(value, Mapping) else []
            raise DataError(f"mask {mask.where.text!r}: the batch has no {key!r}{close_names(key, known)}")
        value = value[key]
    try:
        with within("mask"):
            value = select(value, mask.where.selectors, mask.where)
    except TapError as error:
        raise DataError(str(error)) from None
    return value if mask.compare is None else mask.compare(value, mask.number)


def _broadcast(mask: Tensor, places: Sequence[int]) -> list[int]:
    """Return the dimensions of the positions over which a mask is repeated."""
    return [dim for dim in range(len(places)) if dim >= mask.dim() or mask.shape[dim] == 1]


def _places(shape: Sequence[int], axis: int | None) -> tuple[int, ...]:
    """Return the shape of the positions: that of the tensor without its channels."""
    return tuple(size for number, size in enumerate(shape) if number != axis)


def _length_of(places: tuple[int, ...], inputs: Any) -> Length | None:
    for number, tensor in enumerate(_arguments(inputs)):
        if tensor.dim() > 1 and tensor.shape[0] == places[0]:
            return Length(number, places[1] - tensor.shape[1])
    return None


def _arguments(inputs: Any) -> Iterator[Tensor]:
    """Yield the tensors that are a model's arguments: not those in a list, which holds one item a sample."""
    if isinstance(inputs, Tensor):
        yield inputs
    elif isinstance(inputs, Mapping | tuple | list):
        for value in inputs.values() if isinstance(inputs, Mapping) else inputs:
            if not isinstance(value, list):
                yield from _arguments(value)


def _fitted(mask: Tensor, places: Sequence[int], shape: Sequence[int], axis: int | None) -> Tensor:
    """Return the mask for each position: it may lack the last dimensions, or have the channels' with size 1."""
    original = mask.shape
    if axis is not None and mask.dim() == len(shape) and mask.shape[axis] == 1:
        mask = mask.squeeze(axis)
    if mask.dim() > len(places) or any(have not in (1, want) for have, want in zip(mask.shape, places, strict=False)):
        raise ShapeError(
            f"the mask has shape {tuple(original)}, and the loss compares positions {tuple(places)}; a slice makes "
            "them equal, as in mask='attention_mask[:, 1:]'"
        )
    return mask.reshape(*mask.shape, *(1,) * (len(places) - mask.dim())).expand(*places)


def _kept(argument: Any, places: Sequence[int], shape: Sequence[int], axis: int | None, index: Tensor) -> Any:
    """Return the kept rows of the student's, the teacher's or the target's tensor."""
    if isinstance(argument, tuple):
        return tuple(_kept(part, places, shape, axis, index) for part in argument)
    if not isinstance(argument, Tensor):
        raise ShapeError(f"a mask needs one tensor on each side, got {type(argument).__name__}")
    if tuple(argument.shape) == tuple(places):
        return argument.flatten()[index]
    if axis is None or argument.dim() != len(shape) or _places(argument.shape, axis) != tuple(places):
        raise ShapeError(
            f"a mask keeps positions {tuple(places)} of both sides, and the other one is {tuple(argument.shape)}"
        )
    return argument.movedim(axis, -1).reshape(-1, argument.shape[axis])[index]
