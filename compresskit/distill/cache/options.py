"""What `cache` may be set to: how much is kept, how exactly and where."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from compresskit.errors import RecipeError, close_names

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """How much is kept, how exactly and where."""

    budget: int
    """Bytes."""
    dtype: str = "fp32"
    """What floating-point tensors are kept as."""
    folder: Path | None = None
    """For entries that other runs and processes share; None keeps them in the memory of this process."""
    auto: bool = False
    """Use it only where it can be used and pays."""

    @classmethod
    def of(cls, value: Any) -> "CacheOptions | None":
        """Read what `cache` was set to: None, "auto", or a mapping with `budget`, and maybe `dtype` and `folder`.

        Raises:
            RecipeError: It is something else.
        """
        if value is None or value is False or isinstance(value, CacheOptions):
            return value or None
        if value == "auto":
            return cls(_free_memory() // 2, auto=True)
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
        return cls(_bytes(value["budget"]), dtype, None if folder is None else Path(folder))


def _bytes(value: Any) -> int:
    """A number of bytes, or text such as `8GB` or `512 MiB`.

    Raises:
        RecipeError: It is something else.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", value) if isinstance(value, str) else None
    if found is None or found[2].upper() not in UNITS or float(found[1]) == 0:
        raise RecipeError(
            f"cache: budget must be a size such as 8GB or 512MiB, got {value!r}", path=("cache", "budget")
        )
    return int(float(found[1]) * UNITS[found[2].upper()])


def _free_memory() -> int:
    """Bytes of memory that no process uses; where the system does not tell, a modest guess."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 2 * 10**9
