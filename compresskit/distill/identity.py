"""What tells one teacher from another: not its code, but what its code reads from the module."""

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from compresskit.distill.checkpoint import weights_digest


def identity(model: nn.Module) -> str:
    """A text that is the same for teachers that say the same: class, structure, weights, buffers and settings.

    Settings are attributes of modules: tensors, floats, texts and flags. Whole numbers are left out, since modules
    count with them; a layer's own are in its structure.
    """
    settings = hashlib.sha256()
    for name, value in _settings(model):
        if isinstance(value, Tensor):
            settings.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            settings.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        else:
            settings.update(f"{name} {value!r}".encode())
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    return f"{kind}\n{model!r}\n{weights_digest(model)}\n{settings.hexdigest()}"


def _settings(model: nn.Module) -> Iterator[tuple[str, Tensor | float | str]]:
    for path, module in model.named_modules():
        buffers = dict(module.named_buffers(recurse=False))  # some are not in the state
        for name, value in {**vars(module), **buffers}.items():
            if not name.startswith("_") and name != "training" and isinstance(value, (Tensor, float, str, bool)):
                yield f"{path}.{name}", value
