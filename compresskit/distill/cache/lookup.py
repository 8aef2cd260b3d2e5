"""One frozen teacher's tensors for a batch: from the cache if all of them are there, else from a run of the teacher."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from compresskit.data import SampleId
from compresskit.distill.cache.determinism import Run, check_deterministic
from compresskit.distill.cache.fingerprints import sample_checksums
from compresskit.distill.cache.options import CacheError
from compresskit.distill.cache.store import Key, Store
from compresskit.errors import DataError
from compresskit.nested import device_of, wait_for_device

_TIMED_RUNS = 3
"""Runs of the teacher that are timed before `auto` decides."""


class CachedTeacher:
    """A teacher's tensors at the taps of one stage, by batch.

    A batch is recalled only if all its samples are known at all taps. Otherwise the teacher runs on the whole batch, so
    its tensors are those of a run without a cache. If entries are narrower than the tensors, the tensors of a fresh run
    are rounded as well: what the student learns from does not depend on what was known.

    Args:
        model: The teacher's name, for messages.
        stores: Stores by address.
        dtypes: Types of the returned tensors, by address.
        variants: Epochs after which the data's samples come again.
        auto: True to disable the cache where recalling is not possible or hardly faster than the teacher.
    """

    def __init__(
        self,
        model: str,
        stores: Mapping[str, Store],
        dtypes: Mapping[str, torch.dtype],
        variants: int,
        *,
        auto: bool = False,
    ) -> None:
        self.model, self.stores = model, stores
        self.batches = self.hits = 0
        """Numbers of batches requested and recalled."""
        self.disabled_because: str | None = None
        """The reason why the stores are no longer used."""
        self._dtypes, self._variants, self._auto = dtypes, variants, auto
        self._timings: list[tuple[float, float]] = []
        """Seconds of a run and of the recall of the same batch."""
        self._checked = False

    def __call__(self, inputs: Any, samples: Sequence[SampleId], run: Run) -> Mapping[str, Tensor]:
        """Return the tensors for one batch, by address.

        Args:
            inputs: The teacher's inputs.
            samples: The samples of the batch.
            run: Function that runs the teacher.

        Raises:
            CacheError: The teacher's tensors cannot be kept: they depend on more than the sample, or do not fit.
            DataError: The inputs cannot be recognised.
        """
        if self.disabled_because is not None:
            return run(inputs)
        self.batches += 1
        device = device_of(inputs)
        try:
            keys = self._keys(inputs, samples)
            known = self._recall(keys, device)
            if known is None and not self._checked:
                check_deterministic(self.model, inputs, len(samples), run)
                self._checked = True
        except (CacheError, DataError) as error:
            self._disable(error)
            return run(inputs)
        if known is not None:
            self.hits += 1
            return known
        started = _now(device)
        tensors = {address: tensor.detach() for address, tensor in run(inputs).items()}
        seconds = _now(device) - started
        try:
            tensors |= {address: self._put(address, keys, tensor) for address, tensor in tensors.items()}
        except CacheError as error:
            self._disable(error)
        if self._auto and self.disabled_because is None and len(self._timings) < _TIMED_RUNS:
            self._compare_times(seconds, inputs, keys)
        return tensors

    def __str__(self) -> str:
        if self.disabled_because is not None:
            return f"no cache for {self.model}: {self.disabled_because}"
        share = self.hits / max(1, self.batches)
        size = sum(store.bytes for store in self.stores.values())
        full = "; the folder is full, the rest is in memory" if any(s.full for s in self.stores.values()) else ""
        return f"cache: {share:.0%} of {self.batches} batches of {self.model} recalled, {size / 1e6:.3g} MB kept{full}"

    def _disable(self, error: CacheError | DataError) -> None:
        """Go on without the stores under `auto`; raise the error otherwise."""
        if not self._auto:
            raise error
        self.disabled_because = error.reason if isinstance(error, CacheError) else str(error)

    def _keys(self, inputs: Any, samples: Sequence[SampleId]) -> list[Key]:
        checksums = sample_checksums(inputs, len(samples))
        return [
            (int(sample), sample.epoch % self._variants, checksum)
            for sample, checksum in zip(samples, checksums, strict=True)
        ]

    def _recall(self, keys: list[Key], device: torch.device) -> dict[str, Tensor] | None:
        known = {}
        for address, store in self.stores.items():
            tensors = store.get(keys)
            if tensors is None:
                return None
            known[address] = tensors.to(device, self._dtypes[address])
        return known

    def _put(self, address: str, keys: list[Key], tensor: Tensor) -> Tensor:
        """Keep a tensor, and return it as a recall would."""
        store = self.stores[address]
        if tensor.shape != (len(keys), *store.shape):
            raise CacheError.because(
                f"the tensor at {self.model}:{address} has shape {tuple(tensor.shape)}, and had {tuple(store.shape)} a "
                "sample before; entries have one shape. Leave the cache off for this data"
            )
        entry = tensor.to(store.dtype)
        if store.dtype == torch.float16 and (too_large := entry.isinf() & tensor.isfinite()).any():
            raise CacheError.because(
                f"fp16 cannot hold the tensor at {self.model}:{address}, whose largest value is "
                f"{float(tensor[too_large].abs().max()):.3g}; use dtype bf16 or fp32"
            )
        store.put(keys, entry)
        return entry.to(self._dtypes[address])

    def _compare_times(self, run_seconds: float, inputs: Any, keys: list[Key]) -> None:
        """Time the recall of the batch just kept, and after a few disable the cache if it saves too little."""
        device = device_of(inputs)
        started = _now(device)
        sample_checksums(inputs, len(keys))  # not the same as before where the teacher writes into its inputs
        self._recall(keys, device)
        self._timings.append((run_seconds, _now(device) - started))
        if len(self._timings) == _TIMED_RUNS:
            run, recall = (sorted(seconds)[_TIMED_RUNS // 2] for seconds in zip(*self._timings, strict=True))
            if recall > run / 2:
                self.disabled_because = "recalling takes more than half the time of a run"


def recalled_share(teachers: Iterable[CachedTeacher]) -> float | None:
    """Return the share of batches recalled, over all teachers; None if no batch was requested."""
    teachers = list(teachers)
    batches = sum(teacher.batches for teacher in teachers)
    return sum(teacher.hits for teacher in teachers) / batches if batches else None


def _now(device: torch.device) -> float:
    """Return the time in seconds, after the device has finished its work."""
    wait_for_device(device)
    return time.perf_counter()
