"""The teacher cache of a run: frozen teachers' tensors for each sample, kept for the next time the sample comes.

It is exact under augmentation because augmentation here is replayable (see `compresskit.data`), and because the key of
an entry holds the sample, the variant and a checksum of the teacher's input: other data under the same number is not
found.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from compresskit.data import SampleLoader
from compresskit.distill.cache.fingerprints import model_fingerprint, text_digest
from compresskit.distill.cache.lookup import CachedTeacher
from compresskit.distill.cache.options import DTYPES, CacheError, CacheOptions
from compresskit.distill.cache.store import CacheFolder, Store
from compresskit.distill.objective.forwards import Forwards
from compresskit.distill.objective.models import Point
from compresskit.units import budget_text


class TeacherCache:
    """The cache of one run.

    Args:
        options: Budget, type and folder of the entries.
        loader: The training data.
        settings: Text of everything else that the tensors depend on: device, precision and the like.
        note: Function that shows the user a message.

    Raises:
        CacheError: The loader's samples do not come again or cannot be recognised, or the folder cannot be written.
    """

    def __init__(
        self, options: CacheOptions, loader: Iterable[Any], settings: str, note: Callable[[str], None]
    ) -> None:
        self._options, self._settings, self._note = options, settings, note
        self._variants, self._samples, self._batch_size = _replayable_data(loader)
        self._folder = None if options.folder is None else CacheFolder(options.folder, options.budget)
        self._stores: dict[str, Store] = {}

    def check(self, stage: str, constants: Mapping[Point, Tensor], count: int, batches: int) -> None:
        """Check that a stage's entries fit, and that they are tensors by sample.

        Args:
            stage: The stage's name.
            constants: Tensors to keep, for a traced batch; only their shapes and types are read.
            count: Number of samples in that batch.
            batches: Number of batches of the run from this stage on.

        Raises:
            CacheError: They do not fit; the message says which size they need.
        """
        for point, tensor in constants.items():
            if not tensor.dim() or tensor.shape[0] != count:
                raise CacheError.because(
                    f"stage {stage!r}: the tensor at {point.model}:{point.address} has shape {tuple(tensor.shape)} for "
                    f"a batch of {count}; only tensors whose first dimension is the batch's can be kept"
                )
        entries, size = self._max_entries(batches), sum(map(self._entry_bytes, constants.values()))
        if size * entries > self._options.budget:
            raise CacheError.because(
                f"stage {stage!r} needs {budget_text(size * entries)}: {budget_text(size)} for each of {entries:,} "
                f"samples and variants, and the budget is {budget_text(self._options.budget)}.",
                "A batch is recalled only if all of it is known, so a part would not help: raise budget, or lower "
                "dtype, variants or the number of taps.",
            )

    def cached_teachers(self, stage: str, forwards: Forwards, count: int, batches: int) -> dict[str, CachedTeacher]:
        """Return the replacements of the frozen teachers' runs in one stage, by model; `auto` may return none.

        Args:
            stage: The stage's name.
            forwards: The stage's forwards, traced.
            count: Number of samples in the traced batch.
            batches: Number of batches of the run from this stage on.

        Raises:
            CacheError: The stage's entries do not fit, see `check`.
        """
        constants = forwards.constants()
        if not constants:
            return {}
        if self._options.auto and (reason := self._reason_against(stage, constants, count, batches)):
            self._note(f"stage {stage}: no cache: {reason}")
            return {}
        self.check(stage, constants, count, batches)
        teachers = {point.model: forwards.models.teachers[point.model] for point in constants}
        fingerprints = {
            model: model_fingerprint(teacher, forwards.traces[model].counters) for model, teacher in teachers.items()
        }
        names = {point: self._name(fingerprints[point.model], point, tensor) for point, tensor in constants.items()}
        self._close_stores(except_for=set(names.values()))
        return {
            model: CachedTeacher(
                model,
                {p.address: self._store(names[p], t, batches) for p, t in constants.items() if p.model == model},
                forwards.traces[model].dtypes,
                self._variants,
                auto=self._options.auto,
            )
            for model in teachers
        }

    def flush(self) -> None:
        """Write the entries that are in memory only to the folder, if there is one."""
        for store in self._stores.values():
            store.flush()

    def close(self) -> None:
        """Flush, and release all entries."""
        self._close_stores()

    def _reason_against(self, stage: str, constants: Mapping[Point, Tensor], count: int, batches: int) -> str | None:
        """Return why `auto` does not use the cache in a stage, or None if it does."""
        if batches * self._batch_size <= self._samples * self._variants and self._options.folder is None:
            return "the rest of the run is no longer than one pass over the samples and their variants"
        try:
            self.check(stage, constants, count, batches)
        except CacheError as error:
            return error.reason
        return None

    def _max_entries(self, batches: int) -> int:
        """Return the largest number of entries of one tap."""
        return min(self._samples * self._variants, batches * self._batch_size)

    def _entry_bytes(self, tensor: Tensor) -> int:
        return tensor.shape[1:].numel() * self._entry_dtype(tensor.dtype).itemsize

    def _entry_dtype(self, dtype: torch.dtype) -> torch.dtype:
        return DTYPES[self._options.dtype] if dtype.is_floating_point else dtype

    def _name(self, teacher: str, point: Point, tensor: Tensor) -> str:
        """Return the name of the store of one tap: equal wherever the same entries can be used."""
        entry = f"{self._entry_dtype(tensor.dtype)} {tuple(tensor.shape[1:])}"
        return text_digest(teacher, point.key.partition(":")[2], entry, self._settings)

    def _store(self, name: str, tensor: Tensor, batches: int) -> Store:
        limit = self._max_entries(batches) * self._entry_bytes(tensor)
        if name not in self._stores:
            folder = None if self._folder is None else self._folder.open_store(name)
            self._stores[name] = Store(tensor.shape[1:], self._entry_dtype(tensor.dtype), limit, folder)
        self._stores[name].limit = max(limit, self._stores[name].limit)
        return self._stores[name]

    def _close_stores(self, except_for: Iterable[str] = ()) -> None:
        """Close the stores that are not read from now on, so that the budget is for those that are."""
        for name in self._stores.keys() - set(except_for):
            self._stores.pop(name).close()


def open_cache(
    options: CacheOptions | None,
    loader: Iterable[Any],
    settings: str,
    note: Callable[[str], None],
    *,
    shared: bool = False,
) -> TeacherCache | None:
    """Return the cache of a run, or None; under `auto` a note says why the data does not allow one.

    Several processes (`shared`) need a folder: a sample that one process has seen comes to another in the next pass.

    Args:
        options: Options of the cache; None for no cache.
        loader: The training data.
        settings: Text of everything else that the tensors depend on.
        note: Function that shows the user a message.
        shared: True if several processes work on the run.

    Raises:
        CacheError: The data does not allow the cache.
    """
    if options is None:
        return None
    try:
        if shared and options.folder is None:
            raise CacheError.because("the processes of this run share entries through a folder; give cache.folder")
        return TeacherCache(options, loader, settings, note)
    except CacheError as error:
        if not options.auto:
            raise
        note(f"no cache: {error.reason}")
        return None


def _replayable_data(loader: Iterable[Any]) -> tuple[int, int, int]:
    """Return the numbers of variants and samples and the batch size of data whose samples come again.

    Raises:
        CacheError: The data is of another kind; the message says what is missing.
    """
    if not isinstance(loader, SampleLoader):
        raise CacheError.because(
            f"a {type(loader).__name__} does not tell which samples a batch holds, and its augmentation cannot be "
            "replayed; use compresskit.data.SampleLoader"
        )
    variants, name = getattr(loader.dataset, "variants", None), type(loader.dataset).__name__
    if not isinstance(variants, int) or variants < 1:
        why = "every epoch is new" if hasattr(loader.dataset, "variants") else "it has no attribute `variants`"
        raise CacheError.because(
            f"{name} does not say after how many epochs its samples come again ({why}); give it a number of variants, "
            "1 where nothing is random"
        )
    return variants, len(loader.dataset), min(loader.batch_size, len(loader.dataset))
