"""What one frozen teacher says about a batch: recalled where it was said before, else from a run of it."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from compresskit.data import SampleId
from compresskit.distill.cache.determinism import Run, check_deterministic
from compresskit.distill.cache.fingerprints import checksums
from compresskit.distill.cache.store import Key, Store
from compresskit.errors import DataError, RecipeError
from compresskit.nested import tensors_in

_MEASURED = 3
"""Runs of the teacher that are timed before `auto` decides."""


class CachedTeacher:
    """A teacher's tensors at the taps of one stage, by batch.

    A batch is recalled only if all its samples are known at all taps; otherwise the teacher sees the whole batch, so
    that its tensors are those of a run without a cache. Entries that are narrower than the tensors round a fresh run's
    tensors, too: what the student learns from does not depend on what was known.

    Args:
        model: The teacher's name, for messages.
        stores: By address.
        dtypes: What the tensors are given back as, by address.
        variants: Epochs after which the data's samples come again.
        measure: Whether to give up where recalling is hardly faster than the teacher, or is not possible.
    """

    def __init__(
        self,
        model: str,
        stores: Mapping[str, Store],
        dtypes: Mapping[str, torch.dtype],
        variants: int,
        *,
        measure: bool = False,
    ) -> None:
        self.model, self.stores = model, stores
        self.batches = self.hits = 0
        """Batches that were asked for, and that were recalled."""
        self.given_up: str | None = None
        """Why the teacher is no longer asked by way of the stores."""
        self._dtypes, self._variants = dtypes, variants
        self._auto = measure
        self._seconds: list[tuple[float, float]] | None = [] if measure else None
        self._trusted = False

    def __call__(self, inputs: Any, samples: Sequence[SampleId], run: Run) -> Mapping[str, Tensor]:
        """The tensors for one batch, by address.

        Args:
            inputs: The teacher's.
            samples: Of the batch.
            run: Runs the teacher.

        Raises:
            RecipeError: The teacher's tensors cannot be kept: they depend on more than the sample, or do not fit.
            DataError: The inputs cannot be recognised.
        """
        if self.given_up is not None:
            return run(inputs)
        self.batches += 1
        device = _device(inputs)
        try:
            keys = self._keys(inputs, samples)
            known = self._known(keys, device)
            if known is None and not self._trusted:
                check_deterministic(self.model, inputs, len(samples), run)
                self._trusted = True
        except (RecipeError, DataError) as error:
            self._give_up(error)
            return run(inputs)
        if known is not None:
            self.hits += 1
            return known
        began = _now(device)
        tensors = {address: tensor.detach() for address, tensor in run(inputs).items()}
        ran = _now(device)
        try:
            tensors |= {address: self._put(address, keys, tensor) for address, tensor in tensors.items()}
        except RecipeError as error:
            self._give_up(error)
        if self._seconds is not None:
            self._weigh(ran - began, inputs, keys)
        return tensors

    def _give_up(self, error: Exception) -> None:
        """Go on without, where that is left to us."""
        if not self._auto:
            raise error
        self.given_up, self._seconds = str(error).removeprefix("cache: ").partition("\n")[0], None

    def __str__(self) -> str:
        if self.given_up is not None:
            return f"no cache for {self.model}: {self.given_up}"
        share = self.hits / max(1, self.batches)
        size = sum(store.bytes for store in self.stores.values())
        full = "; the folder took no more, the rest is in memory" if any(s.full for s in self.stores.values()) else ""
        return f"cache: {share:.0%} of {self.batches} batches of {self.model} recalled, {size / 1e6:.3g} MB kept{full}"

    def _keys(self, inputs: Any, samples: Sequence[SampleId]) -> list[Key]:
        sums = checksums(inputs, len(samples))
        return [
            (int(sample), sample.epoch % self._variants, number) for sample, number in zip(samples, sums, strict=True)
        ]

    def _known(self, keys: list[Key], device: torch.device) -> dict[str, Tensor] | None:
        known = {}
        for address, store in self.stores.items():
            tensors = store.take(keys)
            if tensors is None:
                return None
            known[address] = tensors.to(device, self._dtypes[address])
        return known

    def _put(self, address: str, keys: list[Key], tensor: Tensor) -> Tensor:
        store = self.stores[address]
        if tensor.shape != (len(keys), *store.shape):
            raise RecipeError(
                f"cache: the tensor at {self.model}:{address} has shape {tuple(tensor.shape)}, and had "
                f"{tuple(store.shape)} a sample before; entries have one shape. Leave the cache off for this data",
                path=("cache",),
            )
        entry = tensor.to(store.dtype)
        if store.dtype == torch.float16 and (too_large := entry.isinf() & tensor.isfinite()).any():
            raise RecipeError(
                f"cache: fp16 cannot hold the tensor at {self.model}:{address}, which goes up to "
                f"{float(tensor[too_large].abs().max()):.3g}; use dtype bf16 or fp32",
                path=("cache", "dtype"),
            )
        store.put(keys, entry)
        return entry.to(self._dtypes[address])

    def _weigh(self, ran: float, inputs: Any, keys: list[Key]) -> None:
        """Time the recall of the batch that was just put, and after a few give up where it saves too little."""
        device = _device(inputs)
        began = _now(device)
        checksums(inputs, len(keys))  # not what they were, where the teacher writes into them
        self._known(keys, device)
        seconds = [*(self._seconds or []), (ran, _now(device) - began)]
        self._seconds = seconds
        if len(seconds) == _MEASURED:
            teacher, recall = (sorted(times)[_MEASURED // 2] for times in zip(*seconds, strict=True))
            self.given_up = "recalling takes more than half the time of a run" if recall > teacher / 2 else None
            self._seconds = None


def recalled_share(recalls: Iterable[CachedTeacher]) -> float | None:
    """The share of batches that were recalled, over all teachers; None where nothing was asked for."""
    asked = sum(recall.batches for recall in recalls)
    return sum(recall.hits for recall in recalls) / asked if asked else None


def _device(inputs: Any) -> torch.device:
    return next((tensor.device for tensor in tensors_in(inputs)), torch.device("cpu"))


def _now(device: torch.device) -> float:
    """Seconds, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
