"""Measured memory of one real forward, by the allocator's own account."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.autograd.profiler import profile as autograd_profile

from compresskit.errors import DataError
from compresskit.profiling.counting.copies import real_copy, untouched
from compresskit.profiling.counting.model_call import Call
from compresskit.profiling.measuring.free_memory import check_room

_LOG_LEVEL = "KINETO_LOG_LEVEL"


@dataclass(frozen=True, slots=True)
class MeasuredMemory:
    """Bytes beside weights and inputs, which are there before."""

    peak: int
    """Most at one time during the forward."""
    device: str
    method: str
    """`allocator events` on the CPU, `allocator statistics` on CUDA."""
    reserved: int | None = None
    """What CUDA's allocator holds of the device at the peak, weights included; None elsewhere."""


def measured_memory(model: nn.Module, call: Call, device: torch.device | str, *, needed: int) -> MeasuredMemory:
    """Run a copy of `model` twice on real values and see what the second forward allocates.

    Args:
        model: Any module; run in eval mode.
        call: Its inputs.
        device: Where to run.
        needed: Bytes that the run is expected to take, to refuse it before the memory is full.

    Raises:
        DataError: There is not enough free memory, or the device's allocator cannot be asked.
    """
    place = torch.device(device)
    check_room("--memory", needed, place)
    copied, placed = real_copy(model, place), call.on(place)
    with untouched(model), torch.no_grad():
        copied(*placed.args, **placed.kwargs)  # what a first call sets up, it keeps
        if place.type == "cuda":
            return _on_cuda(copied, placed, place)
        if place.type == "cpu":
            return _on_cpu(copied, placed)
    raise DataError(f"--memory: the allocator of {place.type} cannot be asked; use --device cpu or cuda")


def _on_cpu(model: nn.Module, call: Call) -> MeasuredMemory:
    with _silent_profiler(), autograd_profile(use_kineto=False, profile_memory=True) as profiler:
        output = model(*call.args, **call.kwargs)
    del output
    found = [event for event in _events(profiler) if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(found, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return MeasuredMemory(peak, "cpu", "allocator events")


def _on_cuda(model: nn.Module, call: Call, device: torch.device) -> MeasuredMemory:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    model(*call.args, **call.kwargs)
    torch.cuda.synchronize(device)
    peak = torch.cuda.max_memory_allocated(device) - before
    return MeasuredMemory(peak, str(device), "allocator statistics", torch.cuda.max_memory_reserved(device))


@contextmanager
def _silent_profiler() -> Iterator[None]:
    """Without this, the profiler's library writes its stages to stderr; it knows no other switch."""
    before = os.environ.get(_LOG_LEVEL)
    os.environ[_LOG_LEVEL] = before or "99"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_LOG_LEVEL]


def _events(profiler: autograd_profile | None) -> list[Any]:
    results = None if profiler is None else profiler.kineto_results
    return list(results.events()) if results is not None else []
