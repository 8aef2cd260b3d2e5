"""Measured memory of one real forward, as the allocator reports it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.autograd.profiler import profile as autograd_profile

from compresskit.errors import DataError
from compresskit.nested import wait_for_device
from compresskit.profiling.counting.copies import copy_to, guard
from compresskit.profiling.counting.model_call import ModelCall
from compresskit.profiling.measuring.machine import check_free_memory

_LOG_LEVEL = "KINETO_LOG_LEVEL"


@dataclass(frozen=True, slots=True)
class MeasuredMemory:
    """Bytes that a forward takes beside weights and inputs, which are in memory before."""

    peak: int
    """Most bytes at one time during the forward."""
    device: str
    method: str
    """`allocator events` on the CPU, `allocator statistics` on CUDA."""
    reserved: int | None = None
    """Bytes of the device that CUDA's allocator reserves at the peak, weights included; None elsewhere."""


def measure_memory(model: nn.Module, call: ModelCall, device: torch.device, *, needed: int) -> MeasuredMemory:
    """Run a copy of `model` twice on real values, and measure what the second forward allocates.

    Args:
        model: Any module; the copy runs in eval mode.
        call: Its inputs.
        device: Device of the run.
        needed: Bytes that the run is expected to take; more than are free are refused.

    Raises:
        DataError: There is not enough free memory, or the device's allocator reports nothing.
    """
    check_free_memory("--memory", needed, device)
    copy, inputs = copy_to(model, device), call.to(device)
    with guard(model), torch.no_grad():
        inputs.run(copy)  # a first call keeps what it sets up
        if device.type == "cuda":
            return _measure_on_cuda(copy, inputs, device)
        if device.type == "cpu":
            return _measure_on_cpu(copy, inputs)
    raise DataError(f"--memory: the allocator of {device.type} reports nothing; use --device cpu or cuda")


def _measure_on_cpu(copy: nn.Module, inputs: ModelCall) -> MeasuredMemory:
    with _without_log(), autograd_profile(use_kineto=False, profile_memory=True) as profiler:
        output = inputs.run(copy)
    del output
    allocations = [event for event in _events(profiler) if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(allocations, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return MeasuredMemory(peak, "cpu", "allocator events")


def _measure_on_cuda(copy: nn.Module, inputs: ModelCall, device: torch.device) -> MeasuredMemory:
    wait_for_device(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    inputs.run(copy)
    wait_for_device(device)
    peak = torch.cuda.max_memory_allocated(device) - before
    return MeasuredMemory(peak, str(device), "allocator statistics", torch.cuda.max_memory_reserved(device))


@contextmanager
def _without_log() -> Iterator[None]:
    """Keep the profiler's library from writing its stages to stderr; this variable is its only switch."""
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
