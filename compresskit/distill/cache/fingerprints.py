"""Fingerprints: short numbers and texts by which equal inputs, tensors and models are recognised."""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any
from zlib import crc32

import torch
from torch import Tensor, nn

from compresskit.errors import DataError
from compresskit.files import tensor_bytes

_MASK = 2**63 - 1


def sample_checksums(inputs: Any, count: int) -> list[int]:
    """Return a number for each sample: equal for equal inputs, different for others but for a chance of 2^-32.

    Args:
        inputs: Nested batch. A tensor whose first dimension is `count` counts by sample, everything else for all
            samples.
        count: Number of samples in the batch.

    Raises:
        DataError: The inputs hold an object of a kind that cannot be compared.
    """
    checksums = [0] * count
    for leaf in _leaves(inputs):
        if isinstance(leaf, Tensor) and leaf.dim() and leaf.shape[0] == count:
            leaf_checksums = _row_checksums(leaf)
        elif isinstance(leaf, Tensor):
            leaf_checksums = _row_checksums(leaf[None]) * count
        elif leaf is None or isinstance(leaf, (str, int, float)):
            leaf_checksums = [crc32(repr(leaf).encode())] * count
        else:
            raise DataError(f"a batch's inputs hold a {type(leaf).__name__}, which has no checksum")
        checksums = [(31 * old + new) & _MASK for old, new in zip(checksums, leaf_checksums, strict=True)]
    return checksums


def text_digest(*lines: str, digits: int = 32) -> str:
    """Return the first hexadecimal digits of the SHA-256 of some lines."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:digits]


def weights_digest(model: nn.Module) -> str:
    """Return the SHA-256 of a model's parameters and buffers, with their names."""
    digest = hashlib.sha256()
    for name, tensor in named_tensors(model).items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's parameters and buffers by name, without other objects that its state may hold."""
    return {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}


def model_fingerprint(model: nn.Module, counters: Collection[str] = ()) -> str:
    """Return a text that is equal for models that compute the same: class, structure, weights, buffers and settings.

    Settings are attributes of modules: tensors, numbers, texts, flags, types, functions by their names, and containers
    of these.

    Args:
        model: Model to recognise.
        counters: Attributes to leave out, as `module.path.name`: those in which the model counts its calls.
    """
    settings = hashlib.sha256()
    for name, value in _settings(model):
        if name in counters:
            continue
        settings.update(name.encode())
        for part in _bytes_of_setting(value):
            settings.update(part)
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    return f"{kind}\n{model!r}\n{weights_digest(model)}\n{settings.hexdigest()}"


def _row_checksums(tensor: Tensor) -> list[int]:
    rows = tensor.detach().contiguous().reshape(len(tensor), -1).view(torch.uint8)
    if tensor.device.type == "cpu":
        return [crc32(row.numpy().data) for row in rows]
    words = rows.view(torch.int32) if rows.shape[1] % 4 == 0 else rows  # on a GPU: one pass, one short copy back
    return ((words * _factors(words.shape[1], tensor.device)).sum(1) & _MASK).tolist()


@lru_cache(maxsize=8)
def _factors(count: int, device: torch.device) -> Tensor:
    """Return fixed random odd numbers, so that a sum over products changes with any of its words."""
    generator = torch.Generator().manual_seed(0)
    return (torch.randint(2**62, (count,), generator=generator) * 2 + 1).to(device)


def _leaves(value: Any) -> Iterator[Any]:
    """Yield the leaves of a nested batch, of a mapping in the order of its keys."""
    if isinstance(value, Mapping):
        value = [value[key] for key in sorted(value, key=str)]
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _settings(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for path, module in model.named_modules():
        buffers = dict(module.named_buffers(recurse=False))  # some are not in the state
        for name, value in {**vars(module), **buffers}.items():
            if not name.startswith("_") and name != "training":
                yield f"{path}.{name}", value


def _bytes_of_setting(value: Any) -> Iterator[bytes | memoryview]:
    """Yield the bytes that tell one value from another; none for objects of other kinds."""
    if isinstance(value, Tensor):
        yield f"{tuple(value.shape)} {value.dtype}".encode()
        yield tensor_bytes(value)
    elif value is None or isinstance(value, (int, float, complex, str, bytes, torch.dtype)):
        yield repr(value).encode()
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield str(key).encode()
            yield from _bytes_of_setting(value[key])
    elif isinstance(value, (tuple, list)):
        yield f"{len(value)}".encode()
        for item in value:
            yield from _bytes_of_setting(item)
    elif isinstance(name := getattr(value, "__qualname__", None), str):
        yield f"{getattr(value, '__module__', '')}.{name}".encode()
