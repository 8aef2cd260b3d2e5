"""Inputs on the command line: `--input` with a shape, a name and a type, or a file with a batch."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compresskit.errors import CheckpointError, DataError, close_names
from compresskit.files import read_tensors
from compresskit.profiling.counting.model_call import ModelCall

_DTYPES = (
    *(torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.complex64, torch.bool),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
)

_DTYPES_BY_NAME = {str(dtype).removeprefix("torch."): dtype for dtype in _DTYPES} | {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp64": torch.float64,
}

_SHAPE = re.compile(r"(?:(?P<name>[A-Za-z_]\w*)=)?(?P<shape>\d+(?:x\d+)*)(?::(?P<type>\w+))?")


def parse_inputs(texts: Sequence[str]) -> ModelCall:
    """Return the call that all `--input` options describe together.

    `1x4x64x64` is a tensor without values, `ids=1x128:int64` one with a name and a type. `@batch.pt` is a file with a
    tensor, a list or tuple of inputs, a mapping of inputs by name, or a batch with the key `inputs`.

    Raises:
        DataError: A text cannot be understood, or a file cannot be read.
    """
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for text in texts:
        if text.startswith("@"):
            call = _read_call(Path(text[1:]))
            args += call.args
            kwargs |= call.kwargs
            continue
        name, tensor = _parse_shape(text)
        if name is None:
            args.append(tensor)
        else:
            kwargs[name] = tensor
    return ModelCall(tuple(args), kwargs)


def common_inputs(inputs: Mapping[str, Any]) -> ModelCall:
    """Return the call that the recipes of several models propose, which must be the same for all.

    Args:
        inputs: Inputs by the name of the model; None for a model whose recipe proposes none.

    Raises:
        DataError: The inputs differ.
    """
    calls = {name: ModelCall.of(value) for name, value in inputs.items() if value is not None}
    if not calls:
        return ModelCall()
    (first, call), *others = calls.items()
    for name, other in others:
        if other.describe() != call.describe():
            both = f"{first} {', '.join(call.describe())}, {name} {', '.join(other.describe())}"
            raise DataError(f"the recipes' own inputs differ: {both}; choose one with --input")
    return call


def _parse_shape(text: str) -> tuple[str | None, Tensor]:
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise DataError(f"--input {text!r}: expected a shape such as 1x4x64x64, ids=1x128:int64, or @batch.pt")
    dtype = match["type"] or "float32"
    if dtype not in _DTYPES_BY_NAME:
        raise DataError(f"--input {text!r}: no type {dtype!r}{close_names(dtype, _DTYPES_BY_NAME)}")
    shape = [int(side) for side in match["shape"].split("x")]
    return match["name"], torch.empty(shape, dtype=_DTYPES_BY_NAME[dtype], device="meta")


def _read_call(path: Path) -> ModelCall:
    if not path.is_file():
        raise DataError(f"--input @{path}: there is no such file")
    try:
        batch = read_tensors(path)
    except CheckpointError as error:
        raise DataError(f"--input @{path}: it holds no tensors that can be read safely: {error}") from None
    if isinstance(batch, dict) and "inputs" in batch:
        batch = batch["inputs"]
    if not isinstance(batch, Tensor | list | tuple | dict):
        raise DataError(f"--input @{path}: expected a tensor, a list or a mapping, got {type(batch).__name__}")
    return ModelCall.of(batch)
