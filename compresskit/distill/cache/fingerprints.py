"""A number for each sample of a batch that tells whether a model was given the very same tensors before."""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any
from zlib import crc32

import torch
from torch import Tensor, nn

from compresskit.errors import DataError


def checksums(inputs: Any, count: int) -> list[int]:
    """One number a sample: equal for equal inputs, and different for different ones, but for a chance of 2^-32.

    Args:
        inputs: A nested batch; tensors whose first dimension is `count` are told apart by sample, everything else
            belongs to all samples.
        count: Samples in the batch.

    Raises:
        DataError: The inputs hold something of which there is no telling whether it changed.
    """
    sums = [0] * count
    for leaf in _leaves(inputs):
        if isinstance(leaf, Tensor) and leaf.dim() and leaf.shape[0] == count:
            found = _of_rows(leaf)
        elif isinstance(leaf, Tensor):
            found = _of_rows(leaf[None]) * count
        elif leaf is None or isinstance(leaf, (str, int, float)):
            found = [crc32(repr(leaf).encode())] * count
        else:
            raise DataError(f"a batch's inputs hold a {type(leaf).__name__}, which has no checksum")
        sums = [(31 * old + new) & _MASK for old, new in zip(sums, found, strict=True)]
    return sums


_MASK = 2**63 - 1


def _of_rows(tensor: Tensor) -> list[int]:
    rows = tensor.detach().contiguous().reshape(len(tensor), -1).view(torch.uint8)
    if tensor.device.type == "cpu":
        return [crc32(row.numpy().data) for row in rows]
    words = rows.view(torch.int32) if rows.shape[1] % 4 == 0 else rows  # on a GPU: one pass, one short copy back
    return ((words * _factors(words.shape[1], tensor.device)).sum(1) & _MASK).tolist()


@lru_cache(maxsize=8)
def _factors(count: int, device: torch.device) -> Tensor:
    """Fixed random odd numbers, so that a sum over products changes with any of its words."""
    generator = torch.Generator().manual_seed(0)
    return (torch.randint(2**62, (count,), generator=generator) * 2 + 1).to(device)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = [value[key] for key in sorted(value, key=str)]
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def model_fingerprint(model: nn.Module, counts: Collection[str] = ()) -> str:
    """A text that is the same for teachers that say the same: class, structure, weights, buffers and settings.

    Settings are attributes of modules: tensors, numbers, texts, flags, types, functions by their names, and containers
    of these. Those in `counts`, as `module.path.name`, are left out: the model counts its calls in them.
    """
    settings = hashlib.sha256()
    for name, value in _settings(model):
        if name in counts:
            continue
        settings.update(name.encode())
        for part in _parts(value):
            settings.update(part)
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    return f"{kind}\n{model!r}\n{weights_digest(model)}\n{settings.hexdigest()}"


def _settings(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for path, module in model.named_modules():
        buffers = dict(module.named_buffers(recurse=False))  # some are not in the state
        for name, value in {**vars(module), **buffers}.items():
            if not name.startswith("_") and name != "training":
                yield f"{path}.{name}", value


def _parts(value: Any) -> Iterator[bytes | memoryview]:
    """What tells one value from another; nothing of objects of other kinds."""
    if isinstance(value, Tensor):
        yield f"{tuple(value.shape)} {value.dtype}".encode()
        yield value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
    elif value is None or isinstance(value, (int, float, complex, str, bytes, torch.dtype)):
        yield repr(value).encode()
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield str(key).encode()
            yield from _parts(value[key])
    elif isinstance(value, (tuple, list)):
        yield f"{len(value)}".encode()
        for item in value:
            yield from _parts(item)
    elif isinstance(name := getattr(value, "__qualname__", None), str):
        yield f"{getattr(value, '__module__', '')}.{name}".encode()


def weights_digest(model: nn.Module) -> str:
    """SHA-256 over a model's parameters and buffers, by name."""
    digest = hashlib.sha256()
    for name, tensor in named_tensors(model).items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def named_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """A model's parameters and buffers by name; what it keeps beside them in its state is its own business."""
    return {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
