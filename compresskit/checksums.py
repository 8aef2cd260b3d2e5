"""CRC-32 checksums of tensors, records and texts, by which damaged files are recognised.

Every flipped bit changes such a checksum; other damage goes unnoticed with a chance of 2^-32.
"""

import json
import re
from collections.abc import Mapping
from typing import Any
from zlib import crc32

import torch
from torch import Tensor

KEY = "crc32"
"""Name of the checksum in a record and in the metadata of a safetensors file."""

_LAST_LINE = re.compile(r"# crc32 of the lines above: ([0-9a-f]{8})\n?\Z")


def tensor_bytes(tensor: Tensor) -> memoryview:
    """Return the values of a tensor as bytes, in the order of its indices."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data


def tensor_checksum(*tensors: Tensor) -> int:
    """Return the checksum of the values of some tensors."""
    checksum = 0
    for tensor in tensors:
        checksum = crc32(tensor_bytes(tensor), checksum)
    return checksum


def state_checksum(state: Mapping[str, Tensor]) -> str:
    """Return the checksum of a state: names, types, shapes and values, whatever their order."""
    checksum = 0
    for name in sorted(state):
        title = f"{name} {state[name].dtype} {tuple(state[name].shape)}"
        checksum = crc32(tensor_bytes(state[name]), crc32(title.encode(), checksum))
    return f"{checksum:08x}"


def with_checksum(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record of plain data with its checksum, ready for JSON."""
    return {**record, KEY: _record_checksum(record)}


def checked_record(record: Any) -> dict[str, Any] | None:
    """Return a record from JSON without its checksum, or None if it is damaged.

    One without a checksum was written by an earlier version, and passes.
    """
    if not isinstance(record, dict):
        return None
    content = {key: value for key, value in record.items() if key != KEY}
    return content if record.get(KEY) in (None, _record_checksum(content)) else None


def signed_text(text: str) -> str:
    """Return a text of whole lines with a last one that holds their checksum, as a comment."""
    return f"{text}# crc32 of the lines above: {crc32(text.encode()):08x}\n"


def is_unchanged(text: str) -> bool:
    """Return whether a text is as `signed_text` returned it; one without a checksum passes."""
    signature = _LAST_LINE.search(text)
    return signature is None or crc32(text[: signature.start()].encode()) == int(signature[1], 16)


def _record_checksum(record: Mapping[str, Any]) -> str:
    return f"{crc32(json.dumps(record, sort_keys=True).encode()):08x}"
