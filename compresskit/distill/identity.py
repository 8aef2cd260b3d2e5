"""What tells one teacher from another: not its code, but what its code reads from the module."""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compresskit.distill.checkpoint import weights_digest


def identity(model: nn.Module, counts: Collection[str] = ()) -> str:
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
