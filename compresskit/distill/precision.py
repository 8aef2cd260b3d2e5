"""Precision, memory format and compilation of a run's forwards. None of it is on by default."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from compresskit.errors import RecipeError, close_names
from compresskit.nested import map_tensors, parameters_and_buffers

AUTO = "auto"
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
MEMORY_FORMATS = ("contiguous", "channels_last")
_AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Precision:
    """The precision, memory format and compilation of forwards. Weights and losses are float32 or better in every case.

    Raises:
        RecipeError: A value is unknown; the message names the nearest.
    """

    precision: str = "fp32"
    """"fp32"; "tf32", float32 whose products a GPU rounds; "bf16" or "fp16", autocast, the latter with loss scaling; or
    "auto"."""
    compile: bool | str = False
    """True runs the models through `torch.compile`; "auto" does so if it is faster."""
    memory_format: str = "contiguous"
    """"contiguous", "channels_last" for images, or "auto"."""

    def __post_init__(self) -> None:
        for name, choices in (("precision", PRECISIONS), ("memory_format", MEMORY_FORMATS)):
            value = getattr(self, name)
            if value not in (*choices, AUTO):
                raise RecipeError(f"{name}: unknown {value!r}{close_names(str(value), (*choices, AUTO))}", path=(name,))
        if self.compile is not True and self.compile is not False and self.compile != AUTO:
            raise RecipeError(f"compile must be true, false or auto, got {self.compile!r}", path=("compile",))

    @property
    def is_resolved(self) -> bool:
        """True if no option is "auto"."""
        return AUTO not in (self.precision, self.compile, self.memory_format)

    @property
    def autocast_dtype(self) -> torch.dtype | None:
        """The type to which forwards are cast, or None."""
        return _AUTOCAST_DTYPES.get(self.precision)

    @property
    def is_default(self) -> bool:
        """True if every option has its default."""
        return self == Precision()

    def check(self, device: torch.device) -> None:
        """Check that the device supports the options.

        Raises:
            RecipeError: It does not.
        """
        if self.precision == "tf32" and device.type != "cuda":
            raise RecipeError(
                f"precision: tf32 is a GPU's, and this run is on {device.type}; use fp32 or bf16", path=("precision",)
            )
        if self.precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
            raise RecipeError("precision: this GPU has no bf16; use fp16", path=("precision",))

    def to_memory_format(self, inputs: Any) -> Any:
        """Return a nested batch with its images, the tensors of four dimensions, in the memory format."""
        if self.memory_format != "channels_last":
            return inputs
        return map_tensors(lambda t: t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t, inputs)

    def autocast(self, device_type: str) -> AbstractContextManager[Any]:
        """Return the block in which forwards run on a type of device, such as "cuda"."""
        if self.autocast_dtype is None:
            return nullcontext()
        return torch.autocast(device_type, dtype=self.autocast_dtype)

    @contextmanager
    def applied_to(self, *models: nn.Module) -> Iterator[None]:
        """Give models the memory format, and float32 products the precision, inside the block; restore both on exit."""
        products = torch.get_float32_matmul_precision()
        if self.precision == "tf32":
            torch.set_float32_matmul_precision("high")
        try:
            with channels_last(*models) if self.memory_format == "channels_last" else nullcontext():
                yield
        finally:
            torch.set_float32_matmul_precision(products)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, for a checkpoint or a recipe."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.precision}, {self.memory_format}, {'compiled' if self.compile else 'not compiled'}"


@contextmanager
def channels_last(*models: nn.Module) -> Iterator[None]:
    """Store four-dimensional weights and buffers channels last inside the block; restore their order on exit."""
    changed = [tensor for tensor in dict.fromkeys(chain(*map(parameters_and_buffers, models))) if _changes(tensor)]
    _store_as(torch.channels_last, changed)
    try:
        yield
    finally:
        _store_as(torch.contiguous_format, changed)


def match_memory_format(copy: nn.Module, model: nn.Module) -> None:
    """Store the weights and buffers of a copy, made inside `channels_last`, in the order of the model's own."""
    pairs = zip(parameters_and_buffers(copy), parameters_and_buffers(model), strict=True)
    different = [ours for ours, theirs in pairs if ours.stride() != theirs.stride() and theirs.is_contiguous()]
    _store_as(torch.contiguous_format, different)


def _changes(tensor: Tensor) -> bool:
    if tensor.dim() != 4 or tensor.layout != torch.strided or not tensor.is_contiguous():
        return False
    return tensor.detach().to(memory_format=torch.channels_last).stride() != tensor.stride()  # 1x1 is both at once


def _store_as(memory_format: torch.memory_format, tensors: list[Tensor]) -> None:
    for tensor in tensors:
        tensor.data = tensor.data.to(memory_format=memory_format)
