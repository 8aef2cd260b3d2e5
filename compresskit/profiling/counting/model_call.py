"""Inputs of one call of a model. Counting needs only the shapes of its tensors; real runs need values."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from compresskit.errors import DataError
from compresskit.nested import held_tensors, map_tensors
from compresskit.units import shape_text


@dataclass(frozen=True, slots=True)
class ModelCall:
    """Positional and keyword inputs, nested as the model takes them."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, inputs: Any, kwargs: Mapping[str, Any] | None = None) -> "ModelCall":
        """Make a call from a tensor (one input), a tuple or list (several) or a mapping (inputs by name)."""
        if isinstance(inputs, Mapping):
            return cls((), {**inputs, **(kwargs or {})})
        args = tuple(inputs) if isinstance(inputs, Sequence) and not isinstance(inputs, str) else (inputs,)
        return cls(() if inputs is None else args, dict(kwargs or {}))

    def run(self, model: nn.Module) -> Any:
        """Call `model` with these inputs, and return its output."""
        return model(*self.args, **self.kwargs)

    def tensors(self) -> list[Tensor]:
        """Return all tensors among the inputs."""
        return list(held_tensors([self.args, self.kwargs]))

    def map(self, function: Callable[[Tensor], Tensor]) -> "ModelCall":
        """Return the call with `function` of each tensor in the tensor's place."""
        return ModelCall(map_tensors(function, self.args), map_tensors(function, dict(self.kwargs)))

    def to_meta(self) -> "ModelCall":
        """Return the call with tensors of the same shapes and without values."""
        return self.map(lambda tensor: torch.empty_like(tensor, device="meta"))

    def to(self, device: torch.device | str) -> "ModelCall":
        """Return the call with its tensors on a device.

        Tensors without values get some: random ones from 0 to 1, or zeros if their type is integer.
        """
        generator = torch.Generator().manual_seed(0)

        def to_device(tensor: Tensor) -> Tensor:
            if not tensor.is_meta:
                return tensor.detach().to(device)
            if tensor.is_floating_point():
                return torch.rand(tensor.shape, generator=generator).to(device, tensor.dtype)
            return torch.zeros(tensor.shape, dtype=tensor.dtype, device=device)

        return self.map(to_device)

    def resize(self, height: int, width: int) -> "ModelCall":
        """Return the call with pictures of another size, without values.

        The first picture gets this size; pictures of other sizes are scaled by the same factors.
        """
        if (size := self.picture_size()) is None or size == (height, width):
            return self

        def resized(tensor: Tensor) -> Tensor:
            if tensor.ndim < 4:
                return tensor
            sides = zip(tensor.shape[-2:], (height, width), size, strict=True)
            shape = (*tensor.shape[:-2], *(max(1, side * new // old) for side, new, old in sides))
            return torch.empty(shape, dtype=tensor.dtype, device="meta")

        return self.map(resized)

    def picture_size(self) -> tuple[int, int] | None:
        """Return height and width of the first picture, a tensor (..., height, width) of four axes or more."""
        for tensor in self.tensors():
            if tensor.ndim >= 4:
                return tensor.shape[-2], tensor.shape[-1]
        return None

    def positions(self) -> int:
        """Return the pixels of all pictures and the elements of other inputs: a measure of a real run's duration."""
        return sum(t.numel() // max(1, t.shape[-3]) if t.ndim >= 4 else t.numel() for t in self.tensors())

    def check(self, model: nn.Module) -> None:
        """Refuse inputs whose names or number do not fit `model.forward`.

        Raises:
            DataError: The inputs do not fit; the message shows the signature.
        """
        try:
            signature = inspect.signature(model.forward)
        except (TypeError, ValueError):  # a compiled forward has no signature
            return
        try:
            signature.bind(*self.args, **self.kwargs)
        except TypeError as error:
            problem = "no inputs were given" if not self.args and not self.kwargs else str(error)
            plain = _without_annotations(signature)
            raise DataError(f"{type(model).__name__}: {problem}; its signature is forward{plain}") from error

    def describe(self) -> list[str]:
        """Return shapes and types as text: `1x4x64x64 float32`, `mask=1x10 bool`."""
        inputs = [*(("", value) for value in self.args), *((f"{name}=", value) for name, value in self.kwargs.items())]
        return [
            f"{prefix}{shape_text(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
            for prefix, value in inputs
            for tensor in held_tensors(value)
        ]


def _without_annotations(signature: inspect.Signature) -> inspect.Signature:
    """Return a signature without annotations, which can be as long as a page."""
    empty = inspect.Signature.empty
    plain = [parameter.replace(annotation=empty) for parameter in signature.parameters.values()]
    return signature.replace(parameters=plain, return_annotation=empty)
