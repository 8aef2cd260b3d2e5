"""The options of `cache`: budget, type and folder; and the error where no cache can be used."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from compresskit.environment import free_bytes
from compresskit.errors import RecipeError, close_names
from compresskit.units import BYTE_UNITS

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

UNKNOWN_MEMORY = 2 * 10**9
"""Bytes that are taken to be free where the system does not say."""


class CacheError(RecipeError):
    """The cache cannot be used for this data, teacher or folder. With `cache="auto"` the run continues without it."""

    reason = ""
    """The first line of the message, without the option's name."""

    @classmethod
    def because(cls, reason: str, advice: str = "") -> Self:
        """Return the error for a reason of one line, with advice on the lines after it."""
        error = cls("\n".join(filter(None, (f"cache: {reason}", advice))), path=("cache",))
        error.reason = reason
        return error


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """The budget, type and folder of a cache."""

    budget: int
    """Most bytes."""
    dtype: str = "fp32"
    """Type in which floating-point tensors are kept."""
    folder: Path | None = None
    """Folder of entries that other runs and processes share; None keeps them in the memory of this process."""
    auto: bool = False
    """True to use the cache only where that is possible and saves time."""

    @classmethod
    def of(cls, value: Any) -> "CacheOptions | None":
        """Read the value of `cache`: None, "auto", or a mapping with `budget` and perhaps `dtype` and `folder`.

        Raises:
            RecipeError: It is something else.
        """
        if value is None or value is False or isinstance(value, CacheOptions):
            return value or None
        if value == "auto":
            free = free_bytes(torch.device("cpu"))
            return cls((UNKNOWN_MEMORY if free is None else free) // 2, auto=True)
        known = ("budget", "dtype", "folder")
        for key in value if isinstance(value, Mapping) else ():
            if key not in known:
                raise RecipeError(f"cache: unknown key {key!r}{close_names(str(key), known)}", path=("cache", key))
        if not isinstance(value, Mapping) or "budget" not in value:
            raise RecipeError(
                f"cache must be auto or a mapping such as {{budget: 8GB, dtype: fp16}}, got {value!r}", path=("cache",)
            )
        dtype, folder = value.get("dtype") or "fp32", value.get("folder")
        if dtype not in DTYPES:
            raise RecipeError(
                f"cache: dtype: unknown {dtype!r}{close_names(str(dtype), DTYPES)}", path=("cache", "dtype")
            )
        if not isinstance(folder, str | Path | None):
            raise RecipeError(f"cache: folder must be a path, got {folder!r}", path=("cache", "folder"))
        return cls(_parse_size(value["budget"]), dtype, None if folder is None else Path(folder))


def _parse_size(value: Any) -> int:
    """Return a number of bytes, from a number or a text such as `8GB` or `512 MiB`.

    Raises:
        RecipeError: It is something else.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    size = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", value) if isinstance(value, str) else None
    if size is None or size[2].upper() not in BYTE_UNITS or float(size[1]) == 0:
        raise RecipeError(
            f"cache: budget must be a size such as 8GB or 512MiB, got {value!r}", path=("cache", "budget")
        )
    return int(float(size[1]) * BYTE_UNITS[size[2].upper()])
