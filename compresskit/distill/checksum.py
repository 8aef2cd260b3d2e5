"""A number for each sample of a batch that tells whether a model was given the very same tensors before."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any
from zlib import crc32

import torch
from torch import Tensor

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
