"""What a model is called with: a tensor's shape is all that counting needs, running needs values."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from compresskit.errors import DataError
from compresskit.profiling.counting.tensors import mapped, tensors_in


@dataclass(frozen=True, slots=True)
class Call:
    """Positional and keyword inputs; nested as the model takes them."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, inputs: Any, kwargs: Mapping[str, Any] | None = None) -> "Call":
        """A tensor is one input, a tuple or list several, a mapping goes to the model by name."""
        if isinstance(inputs, Mapping):
            return cls((), {**inputs, **(kwargs or {})})
        args = tuple(inputs) if isinstance(inputs, Sequence) and not isinstance(inputs, str) else (inputs,)
        return cls(() if inputs is None else args, dict(kwargs or {}))

    def tensors(self) -> list[Tensor]:
        """All tensors among the inputs."""
        return list(tensors_in([self.args, self.kwargs]))

    def on_meta(self) -> "Call":
        """The same shapes without values."""
        return self.mapped(lambda tensor: torch.empty_like(tensor, device="meta"))

    def on(self, device: torch.device | str) -> "Call":
        """The same inputs on a device. What has no values gets some: from 0 to 1, or zeros where they are whole."""
        generator = torch.Generator().manual_seed(0)

        def placed(tensor: Tensor) -> Tensor:
            if not tensor.is_meta:
                return tensor.detach().to(device)
            if tensor.is_floating_point():
                return torch.rand(tensor.shape, generator=generator).to(device, tensor.dtype)
            return torch.zeros(tensor.shape, dtype=tensor.dtype, device=device)

        return self.mapped(placed)

    def resized(self, height: int, width: int) -> "Call":
        """Pictures without values of another size; inputs of other sizes than the first shrink or grow with it."""
        if (frame := self.frame()) is None or frame == (height, width):
            return self

        def scaled(tensor: Tensor) -> Tensor:
            if tensor.ndim < 4:
                return tensor
            sides = zip(tensor.shape[-2:], (height, width), frame, strict=True)
            shape = (*tensor.shape[:-2], *(max(1, side * new // old) for side, new, old in sides))
            return torch.empty(shape, dtype=tensor.dtype, device="meta")

        return self.mapped(scaled)

    def frame(self) -> tuple[int, int] | None:
        """Height and width of the first picture, a tensor (..., height, width) of four axes or more."""
        for tensor in self.tensors():
            if tensor.ndim >= 4:
                return tensor.shape[-2], tensor.shape[-1]
        return None

    def positions(self) -> int:
        """Pixels of all pictures, elements of other inputs: a measure of how long a real run takes."""
        return sum(t.numel() // max(1, t.shape[-3]) if t.ndim >= 4 else t.numel() for t in self.tensors())

    def check(self, model: nn.Module) -> None:
        """Refuse inputs that `model.forward` does not take by these names or in this number.

        Raises:
            DataError: The message shows the signature.
        """
        try:
            signature = inspect.signature(model.forward)
        except (TypeError, ValueError):  # a compiled forward does not tell
            return
        try:
            signature.bind(*self.args, **self.kwargs)
        except TypeError as error:
            given = "no inputs were given" if not self.args and not self.kwargs else str(error)
            raise DataError(f"{type(model).__name__}: {given}; it is forward{_short(signature)}") from error

    def describe(self) -> list[str]:
        """Shapes and types: `1x4x64x64 float32`, `mask=1x10 bool`."""
        named = [(f"{index}" if len(self.args) > 1 else "", value) for index, value in enumerate(self.args)]
        lines = []
        for name, value in [*named, *self.kwargs.items()]:
            prefix = f"{name}=" if name and not name.isdigit() else ""
            lines += [f"{prefix}{shape_text(t.shape)} {str(t.dtype).removeprefix('torch.')}" for t in tensors_in(value)]
        return lines

    def mapped(self, function: Callable[[Tensor], Tensor]) -> "Call":
        """The call with `function` of each tensor in its place."""
        return Call(mapped(function, self.args), mapped(function, dict(self.kwargs)))


def shape_text(shape: Sequence[int]) -> str:
    """`1x4x64x64`; a scalar has no axes."""
    return "x".join(map(str, shape)) or "scalar"


def _short(signature: inspect.Signature) -> str:
    """A signature without annotations: these can be as long as a page."""
    empty = inspect.Signature.empty
    plain = [parameter.replace(annotation=empty) for parameter in signature.parameters.values()]
    return str(signature.replace(parameters=plain, return_annotation=empty))
