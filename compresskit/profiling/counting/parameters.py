"""Parameters and buffers of a model, each once: tied weights are stored once, and counted once."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Parameters:
    """Numbers of values, and their bytes."""

    total: int
    trainable: int
    frozen: int
    tied: tuple[tuple[str, ...], ...]
    """Names that lead to the same parameter, a tuple for each such parameter."""
    bytes: int
    dtypes: Mapping[str, int]
    """Bytes of the parameters by type."""
    zeros: int | None
    """Parameters that are exactly 0, those behind a pruning mask included; None without values (meta device)."""
    buffers: int
    buffer_bytes: int


def walk(model: nn.Module) -> Parameters:
    """The parameters and buffers of a model, whether a forward uses them or not."""
    names = _names(model.named_parameters(remove_duplicate=False))
    parameters = [tensor for tensor, _ in names]
    buffers = [tensor for tensor, _ in _names(model.named_buffers(remove_duplicate=False))]
    dtypes: dict[str, int] = {}
    for parameter in parameters:
        dtype = str(parameter.dtype).removeprefix("torch.")
        dtypes[dtype] = dtypes.get(dtype, 0) + size_in_bytes(parameter)
    trainable = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in parameters)
    return Parameters(
        total,
        trainable,
        total - trainable,
        tuple(tuple(paths) for _, paths in names if len(paths) > 1),
        sum(dtypes.values()),
        dtypes,
        _zeros(model, parameters),
        sum(buffer.numel() for buffer in buffers),
        sum(map(size_in_bytes, buffers)),
    )


def count_parameters(module: nn.Module) -> int:
    """Parameters of a module and all inside it, each once."""
    return sum(tensor.numel() for tensor, _ in _names(module.named_parameters(remove_duplicate=False)))


def size_in_bytes(tensor: Tensor) -> int:
    """Bytes of a tensor's elements."""
    return tensor.numel() * tensor.element_size()


def _names(named: Iterable[tuple[str, Tensor]]) -> list[tuple[Tensor, list[str]]]:
    """Each tensor once, with all its names; two are the same if they are the same elements of the same storage."""
    found: dict[object, tuple[Tensor, list[str]]] = {}
    for name, tensor in named:
        found.setdefault(_identity(tensor), (tensor, []))[1].append(name)
    return list(found.values())


def _identity(tensor: Tensor) -> object:
    if tensor.numel() == 0:
        return id(tensor)
    try:
        storage = tensor.untyped_storage()._cdata  # noqa: SLF001  (storages on the meta device have no other name)
    except (NotImplementedError, RuntimeError):  # sparse and opaque tensors have no storage
        return id(tensor)
    return storage, tensor.storage_offset(), tuple(tensor.shape), tensor.stride()


@torch.no_grad()
def _zeros(model: nn.Module, parameters: Iterable[Tensor]) -> int | None:
    masks = dict(_masked(model))
    zeros = 0
    for parameter in parameters:
        if parameter.is_meta or not _has_values(parameter):
            return None
        mask = masks.get(id(parameter))
        zeros += parameter.numel() - int(torch.count_nonzero(parameter if mask is None else parameter * mask))
    return zeros


def _masked(model: nn.Module) -> Iterator[tuple[int, Tensor]]:
    """Parameters that `torch.nn.utils.prune` has put behind a mask, by id."""
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            mask = getattr(module, f"{name.removesuffix('_orig')}_mask", None)
            if name.endswith("_orig") and isinstance(mask, Tensor):
                yield id(parameter), mask


def _has_values(parameter: Tensor) -> bool:
    return parameter.layout is torch.strided and type(parameter) in (Tensor, nn.Parameter)
