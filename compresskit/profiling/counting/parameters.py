"""Parameters and buffers of a model. Tied weights are stored once, and counted once."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Parameters:
    """Numbers and bytes of a model's parameters and buffers."""

    total: int
    trainable: int
    frozen: int
    tied: tuple[tuple[str, ...], ...]
    """Names of the same parameter, a tuple for each parameter with several."""
    bytes: int
    dtypes: Mapping[str, int]
    """Bytes of the parameters by type."""
    zeros: int | None
    """Parameters that are exactly 0, those behind a pruning mask included; None without values (meta device)."""
    buffers: int
    buffer_bytes: int


def count_parameters(model: nn.Module) -> Parameters:
    """Count the parameters and buffers of a model, whether a forward uses them or not."""
    names = _names_of_tensors(model.named_parameters(remove_duplicate=False))
    parameters = [tensor for tensor, _ in names]
    buffers = [tensor for tensor, _ in _names_of_tensors(model.named_buffers(remove_duplicate=False))]
    dtypes: dict[str, int] = {}
    for parameter in parameters:
        dtype = str(parameter.dtype).removeprefix("torch.")
        dtypes[dtype] = dtypes.get(dtype, 0) + _size_in_bytes(parameter)
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
        sum(map(_size_in_bytes, buffers)),
    )


def total_parameters(module: nn.Module) -> int:
    """Return the number of parameters of a module and all inside it, tied ones once."""
    return sum(tensor.numel() for tensor, _ in _names_of_tensors(module.named_parameters(remove_duplicate=False)))


def _names_of_tensors(named: Iterable[tuple[str, Tensor]]) -> list[tuple[Tensor, list[str]]]:
    """Return each tensor once, with all its names; two are the same if they are the same elements of one storage."""
    names: dict[object, tuple[Tensor, list[str]]] = {}
    for name, tensor in named:
        names.setdefault(_identity(tensor), (tensor, []))[1].append(name)
    return list(names.values())


def _identity(tensor: Tensor) -> object:
    if tensor.numel() == 0:
        return id(tensor)
    try:
        storage = tensor.untyped_storage()._cdata  # noqa: SLF001  (storages on the meta device have no other name)
    except (NotImplementedError, RuntimeError):  # sparse and opaque tensors have no storage
        return id(tensor)
    return storage, tensor.storage_offset(), tuple(tensor.shape), tensor.stride()


def _size_in_bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


@torch.no_grad()
def _zeros(model: nn.Module, parameters: Iterable[Tensor]) -> int | None:
    masks = dict(_pruning_masks(model))
    zeros = 0
    for parameter in parameters:
        if parameter.is_meta or not _has_values(parameter):
            return None
        mask = masks.get(id(parameter))
        zeros += parameter.numel() - int(torch.count_nonzero(parameter if mask is None else parameter * mask))
    return zeros


def _pruning_masks(model: nn.Module) -> Iterator[tuple[int, Tensor]]:
    """Yield the masks of `torch.nn.utils.prune`, each with the id of its parameter."""
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            mask = getattr(module, f"{name.removesuffix('_orig')}_mask", None)
            if name.endswith("_orig") and isinstance(mask, Tensor):
                yield id(parameter), mask


def _has_values(parameter: Tensor) -> bool:
    return parameter.layout is torch.strided and type(parameter) in (Tensor, nn.Parameter)
