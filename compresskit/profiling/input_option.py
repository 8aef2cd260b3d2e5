"""`--input` on the command line: shapes, names, types, or a file with a batch."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from compresskit.errors import DataError, close_names
from compresskit.profiling.counting.model_call import Call

_KINDS = (
    *(torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.complex64, torch.bool),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
)


_TYPES = {str(kind).removeprefix("torch."): kind for kind in _KINDS} | {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp64": torch.float64,
}


_SHAPED = re.compile(r"(?:(?P<name>[A-Za-z_]\w*)=)?(?P<shape>\d+(?:x\d+)*)(?::(?P<type>\w+))?")


def parse_inputs(texts: Sequence[str]) -> Call:
    """What the `--input` options mean together.

    `1x4x64x64` is a tensor without values, `ids=1x128:int64` one with a name and a type, `@batch.pt` what a file holds:
    a tensor, a list or tuple of inputs, a mapping of inputs by name, or a batch with the key `inputs`.

    Raises:
        DataError: A text cannot be understood, or a file cannot be read.
    """
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for text in texts:
        if text.startswith("@"):
            call = _from_file(Path(text[1:]))
            args += call.args
            kwargs |= call.kwargs
            continue
        name, tensor = _shaped(text)
        if name is None:
            args.append(tensor)
        else:
            kwargs[name] = tensor
    return Call(tuple(args), kwargs)


def agreed_inputs(offered: Mapping[str, Any]) -> Call:
    """The call that models were offered by their recipes, which must be one for all.

    Raises:
        DataError: Nothing was offered, or not the same to all.
    """
    calls = {name: Call.of(inputs) for name, inputs in offered.items() if inputs is not None}
    if not calls:
        return Call()
    (first, call), *others = calls.items()
    for name, other in others:
        if other.describe() != call.describe():
            found = f"{first} {', '.join(call.describe())}, {name} {', '.join(other.describe())}"
            raise DataError(f"the recipes' own inputs differ: {found}; say which with --input")
    return call


def _shaped(text: str) -> tuple[str | None, Tensor]:
    found = _SHAPED.fullmatch(text)
    if found is None:
        raise DataError(f"--input {text!r}: expected a shape such as 1x4x64x64, ids=1x128:int64, or @batch.pt")
    kind = found["type"] or "float32"
    if kind not in _TYPES:
        raise DataError(f"--input {text!r}: no type {kind!r}{close_names(kind, _TYPES)}")
    shape = [int(side) for side in found["shape"].split("x")]
    return found["name"], torch.empty(shape, dtype=_TYPES[kind], device="meta")


def _from_file(path: Path) -> Call:
    if not path.is_file():
        raise DataError(f"--input @{path}: there is no such file")
    try:
        batch = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"--input @{path}: it holds no tensors that can be read safely: {first}") from error
    if isinstance(batch, dict) and "inputs" in batch:
        batch = batch["inputs"]
    if not isinstance(batch, Tensor | list | tuple | dict):
        raise DataError(f"--input @{path}: expected a tensor, a list or a mapping, got {type(batch).__name__}")
    return Call.of(batch)
