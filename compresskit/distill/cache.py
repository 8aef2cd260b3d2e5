"""The teacher cache: what frozen teachers say about each sample, kept for the next time that the sample comes.

It is exact under augmentation because augmentation here is replayable (see `compresskit.data`), and because each entry
is found by sample, variant and a checksum of what the teacher is given: other data under the same number is not found.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compresskit.data import SampleLoader
from compresskit.distill.checkpoint import weights_digest
from compresskit.distill.forwards import Forwards
from compresskit.distill.models import Point
from compresskit.distill.recall import Recall
from compresskit.distill.store import Store, make_room
from compresskit.errors import RecipeError, close_names

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


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
        if not isinstance(value, Mapping) or "budget" not in value:
            raise RecipeError(f"cache must be auto or a mapping such as {{budget: 8GB, dtype: fp16}}, got {value!r}")
        known = ("budget", "dtype", "folder")
        for key in value:
            if key not in known:
                raise RecipeError(f"cache: unknown key {key!r}{close_names(str(key), known)}")
        dtype, folder = value.get("dtype") or "fp32", value.get("folder")
        if dtype not in DTYPES:
            raise RecipeError(f"cache: dtype: unknown {dtype!r}{close_names(str(dtype), DTYPES)}")
        if not isinstance(folder, str | Path | None):
            raise RecipeError(f"cache: folder must be a path, got {folder!r}")
        return cls(_bytes(value["budget"]), dtype, None if folder is None else Path(folder))


class TeacherCache:
    """The cache of one run.

    Args:
        options: How much, how exactly and where.
        loader: The training data.
        how: Everything else that the numbers depend on: device, precision and the like.
        note: Tells the user something.

    Raises:
        RecipeError: What the loader gives does not come again, or cannot be recognised when it does.
    """

    def __init__(self, options: CacheOptions, loader: Iterable[Any], how: str, note: Callable[[str], None]) -> None:
        self._options, self._how, self._note = options, how, note
        self._variants, self._samples, self._batch_size = _replayable(loader)
        self._stores: dict[str, Store] = {}

    def check(self, stage: str, shapes: Mapping[Point, torch.Size], count: int, batches: int) -> None:
        """See that a stage's entries fit, and that they are tensors by sample.

        Args:
            stage: Its name.
            shapes: Of the constant tensors, for a traced batch.
            count: Samples in that batch.
            batches: How many the run will see from this stage on.

        Raises:
            RecipeError: They do not fit; the message says what they would need.
        """
        for point, shape in shapes.items():
            if not shape or shape[0] != count:
                raise RecipeError(
                    f"cache: stage {stage!r}: the tensor at {point.model}:{point.address} has shape {tuple(shape)} for "
                    f"a batch of {count}; only tensors whose first dimension is the batch's can be kept"
                )
        rows, size = self._rows(batches), sum(map(self._entry_bytes, shapes.values()))
        if size * rows > self._options.budget:
            raise RecipeError(
                f"cache: stage {stage!r} needs {_text(size * rows)}: {_text(size)} for each of {rows:,} samples and "
                f"variants, and the budget is {_text(self._options.budget)}.\nA batch is recalled only if all of it is "
                "known, so a part would not help: raise budget, or lower dtype, variants or the number of taps."
            )

    def recalls(self, stage: str, forwards: Forwards, count: int, batches: int) -> dict[str, Recall]:
        """What takes the place of the frozen teachers' runs in one stage, by model; with `auto` there may be none.

        Raises:
            RecipeError: As from `check`.
        """
        shapes = forwards.constants()
        if not shapes:
            return {}
        if self._options.auto and (why := self._why_not(stage, shapes, count, batches)):
            self._note(f"stage {stage}: no cache: {why}")
            return {}
        self.check(stage, shapes, count, batches)
        digests = {name: _digest(forwards.models.teachers[name]) for name in {point.model for point in shapes}}
        names = {point: self._name(digests[point.model], point) for point in shapes}
        self._forget(set(names.values()), self._rows(batches) * sum(map(self._entry_bytes, shapes.values())))
        recalls = {}
        for model in digests:
            trace = forwards.traces[model]
            stores = {
                point.address: self._store(names[point], shape, trace.dtypes[point.address], batches)
                for point, shape in shapes.items()
                if point.model == model
            }
            recalls[model] = Recall(model, stores, trace.dtypes, self._variants, measure=self._options.auto)
        return recalls

    def close(self) -> None:
        """Bring what is in memory to the folder, if there is one."""
        for store in self._stores.values():
            store.flush()

    def _why_not(self, stage: str, shapes: Mapping[Point, torch.Size], count: int, batches: int) -> str | None:
        if batches * self._batch_size <= self._samples * self._variants and self._options.folder is None:
            return "the rest of the run is no longer than one pass over the samples and their variants"
        try:
            self.check(stage, shapes, count, batches)
        except RecipeError as error:
            return str(error).partition(": ")[2].partition("\n")[0]
        return None

    def _rows(self, batches: int) -> int:
        """Entries of one tap, at most."""
        return min(self._samples * self._variants, batches * self._batch_size)

    def _entry_bytes(self, shape: torch.Size) -> int:
        return shape[1:].numel() * DTYPES[self._options.dtype].itemsize

    def _name(self, teacher: str, point: Point) -> str:
        parts = (teacher, point.key.partition(":")[2], self._options.dtype, self._how)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]

    def _store(self, name: str, shape: torch.Size, dtype: torch.dtype, batches: int) -> Store:
        dtype = DTYPES[self._options.dtype] if dtype.is_floating_point else dtype
        folder = None if self._options.folder is None else self._options.folder / name
        limit = self._rows(batches) * shape[1:].numel() * dtype.itemsize
        if name not in self._stores:
            self._stores[name] = Store(shape[1:], dtype, limit, folder)
        self._stores[name].limit = max(limit, self._stores[name].limit)
        return self._stores[name]

    def _forget(self, needed: set[str], size: int) -> None:
        """Let go of what this stage does not read, so that the budget holds for the `size` bytes that it does."""
        for name in self._stores.keys() - needed:
            self._stores.pop(name).flush()
        if self._options.folder is not None and self._options.folder.is_dir():
            make_room(self._options.folder, needed, self._options.budget - size)


def open_cache(
    options: CacheOptions | None, loader: Iterable[Any], how: str, note: Callable[[str], None]
) -> TeacherCache | None:
    """The cache that a run was asked to use, or None; `auto` says why there is none where the data does not allow it.

    Raises:
        RecipeError: The data does not allow the cache that was asked for.
    """
    if options is None:
        return None
    try:
        return TeacherCache(options, loader, how, note)
    except RecipeError as error:
        if not options.auto:
            raise
        note(f"no {error}")
        return None


def _replayable(loader: Iterable[Any]) -> tuple[int, int, int]:
    """Variants, samples and batch size of data whose samples come again and can be recognised.

    Raises:
        RecipeError: It is other data; the message says what is missing.
    """
    if not isinstance(loader, SampleLoader):
        raise RecipeError(
            f"cache: a {type(loader).__name__} does not tell which samples a batch holds, and its augmentation cannot "
            "be replayed; use compresskit.data.SampleLoader"
        )
    variants, name = getattr(loader.dataset, "variants", None), type(loader.dataset).__name__
    if not isinstance(variants, int) or variants < 1:
        what = "every epoch is new" if hasattr(loader.dataset, "variants") else "it has no attribute `variants`"
        raise RecipeError(
            f"cache: {name} does not say after how many epochs its samples come again ({what}); give it a number of "
            "variants, 1 where nothing is random"
        )
    return variants, len(loader.dataset), min(loader.batch_size, len(loader.dataset))


def _digest(model: nn.Module) -> str:
    """What tells one teacher from another: its class, structure and weights."""
    return f"{type(model).__module__}.{type(model).__qualname__}\n{model!r}\n{weights_digest(model)}"


def _bytes(value: Any) -> int:
    """A number of bytes, or text such as `8GB` or `512 MiB`.

    Raises:
        RecipeError: It is something else.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", value) if isinstance(value, str) else None
    if found is None or found[2].upper() not in _UNITS or float(found[1]) == 0:
        raise RecipeError(f"cache: budget must be a size such as 8GB or 512MiB, got {value!r}")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def _text(size: float) -> str:
    """A number of bytes for people."""
    for unit in ("TB", "GB", "MB", "KB"):
        if size >= _UNITS[unit]:
            return f"{size / _UNITS[unit]:.3g} {unit}"
    return f"{size:.0f} B"


def _free_memory() -> int:
    """Bytes of memory that no process uses; where the system does not tell, a modest guess."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 2 * 10**9
