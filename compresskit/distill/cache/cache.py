"""The teacher cache: what frozen teachers say about each sample, kept for the next time that the sample comes.

It is exact under augmentation because augmentation here is replayable (see `compresskit.data`), and because each entry
is found by sample, variant and a checksum of what the teacher is given: other data under the same number is not found.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from compresskit.data import SampleLoader
from compresskit.distill.cache.fingerprints import model_fingerprint
from compresskit.distill.cache.lookup import CachedTeacher
from compresskit.distill.cache.options import DTYPES, UNITS, CacheOptions
from compresskit.distill.cache.store import CacheFolder, Store
from compresskit.distill.objective.forwards import Forwards
from compresskit.distill.objective.models import Point
from compresskit.errors import RecipeError


class TeacherCache:
    """The cache of one run.

    Args:
        options: How much, how exactly and where.
        loader: The training data.
        how: Everything else that the numbers depend on: device, precision and the like.
        note: Tells the user something.

    Raises:
        RecipeError: What the loader gives does not come again, or cannot be recognised when it does; or the folder
            cannot be written.
    """

    def __init__(self, options: CacheOptions, loader: Iterable[Any], how: str, note: Callable[[str], None]) -> None:
        self._options, self._how, self._note = options, how, note
        self._variants, self._samples, self._batch_size = _replayable(loader)
        self._shelf = None if options.folder is None else CacheFolder(options.folder, options.budget)
        self._stores: dict[str, Store] = {}

    def check(self, stage: str, constants: Mapping[Point, Tensor], count: int, batches: int) -> None:
        """See that a stage's entries fit, and that they are tensors by sample.

        Args:
            stage: Its name.
            constants: What is kept, for a traced batch; shapes and types only.
            count: Samples in that batch.
            batches: How many the run will see from this stage on.

        Raises:
            RecipeError: They do not fit; the message says what they would need.
        """
        for point, tensor in constants.items():
            if not tensor.dim() or tensor.shape[0] != count:
                raise RecipeError(
                    f"cache: stage {stage!r}: the tensor at {point.model}:{point.address} has shape "
                    f"{tuple(tensor.shape)} for a batch of {count}; only tensors whose first dimension is the batch's "
                    "can be kept",
                    path=("cache",),
                )
        rows, size = self._rows(batches), sum(map(self._entry_bytes, constants.values()))
        if size * rows > self._options.budget:
            raise RecipeError(
                f"cache: stage {stage!r} needs {_text(size * rows)}: {_text(size)} for each of {rows:,} samples and "
                f"variants, and the budget is {_text(self._options.budget)}.\nA batch is recalled only if all of it is "
                "known, so a part would not help: raise budget, or lower dtype, variants or the number of taps.",
                path=("cache", "budget"),
            )

    def recalls(self, stage: str, forwards: Forwards, count: int, batches: int) -> dict[str, CachedTeacher]:
        """What takes the place of the frozen teachers' runs in one stage, by model; with `auto` there may be none.

        Raises:
            RecipeError: As from `check`.
        """
        constants = forwards.constants()
        if not constants:
            return {}
        if self._options.auto and (why := self._why_not(stage, constants, count, batches)):
            self._note(f"stage {stage}: no cache: {why}")
            return {}
        self.check(stage, constants, count, batches)
        teachers = {point.model: forwards.models.teachers[point.model] for point in constants}
        identities = {
            model: model_fingerprint(teacher, forwards.traces[model].counters) for model, teacher in teachers.items()
        }
        names = {point: self._name(identities[point.model], point, tensor) for point, tensor in constants.items()}
        self._forget(set(names.values()))
        return {
            model: CachedTeacher(
                model,
                {p.address: self._store(names[p], t, batches) for p, t in constants.items() if p.model == model},
                forwards.traces[model].dtypes,
                self._variants,
                measure=self._options.auto,
            )
            for model in teachers
        }

    def flush(self) -> None:
        """Bring what is in memory to the folder, if there is one."""
        for store in self._stores.values():
            store.flush()

    def close(self) -> None:
        """Flush, and let go of everything."""
        self._forget(set())

    def _why_not(self, stage: str, constants: Mapping[Point, Tensor], count: int, batches: int) -> str | None:
        if batches * self._batch_size <= self._samples * self._variants and self._options.folder is None:
            return "the rest of the run is no longer than one pass over the samples and their variants"
        try:
            self.check(stage, constants, count, batches)
        except RecipeError as error:
            return str(error).partition(": ")[2].partition("\n")[0]
        return None

    def _rows(self, batches: int) -> int:
        """Entries of one tap, at most."""
        return min(self._samples * self._variants, batches * self._batch_size)

    def _entry_bytes(self, tensor: Tensor) -> int:
        return tensor.shape[1:].numel() * self._kept_as(tensor.dtype).itemsize

    def _kept_as(self, dtype: torch.dtype) -> torch.dtype:
        return DTYPES[self._options.dtype] if dtype.is_floating_point else dtype

    def _name(self, teacher: str, point: Point, tensor: Tensor) -> str:
        kept = f"{self._kept_as(tensor.dtype)} {tuple(tensor.shape[1:])}"
        parts = (teacher, point.key.partition(":")[2], kept, self._how)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]

    def _store(self, name: str, tensor: Tensor, batches: int) -> Store:
        limit = self._rows(batches) * self._entry_bytes(tensor)
        if name not in self._stores:
            place = None if self._shelf is None else self._shelf.place(name)
            self._stores[name] = Store(tensor.shape[1:], self._kept_as(tensor.dtype), limit, place)
        self._stores[name].limit = max(limit, self._stores[name].limit)
        return self._stores[name]

    def _forget(self, needed: set[str]) -> None:
        """Let go of what is not read from now on, so that the budget holds for what is."""
        for name in self._stores.keys() - needed:
            self._stores.pop(name).close()


def open_cache(
    options: CacheOptions | None,
    loader: Iterable[Any],
    how: str,
    note: Callable[[str], None],
    *,
    shared: bool = False,
) -> TeacherCache | None:
    """The cache that a run was asked to use, or None; `auto` says why there is none where the data does not allow it.

    Several processes need a folder (`shared`): a sample that one has seen comes to another in the next pass.

    Raises:
        RecipeError: The data does not allow the cache that was asked for.
    """
    if options is None:
        return None
    try:
        if shared and options.folder is None:
            raise RecipeError(
                "cache: the processes of this run share entries through a folder; give cache.folder",
                path=("cache", "folder"),
            )
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
            "be replayed; use compresskit.data.SampleLoader",
            path=("cache",),
        )
    variants, name = getattr(loader.dataset, "variants", None), type(loader.dataset).__name__
    if not isinstance(variants, int) or variants < 1:
        what = "every epoch is new" if hasattr(loader.dataset, "variants") else "it has no attribute `variants`"
        raise RecipeError(
            f"cache: {name} does not say after how many epochs its samples come again ({what}); give it a number of "
            "variants, 1 where nothing is random",
            path=("cache",),
        )
    return variants, len(loader.dataset), min(loader.batch_size, len(loader.dataset))


def _text(size: float) -> str:
    """A number of bytes for people."""
    for unit in ("TB", "GB", "MB", "KB"):
        if size >= UNITS[unit]:
            return f"{size / UNITS[unit]:.3g} {unit}"
    return f"{size:.0f} B"
