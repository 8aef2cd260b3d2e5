"""The machine of a real run: its description, and the check of its free memory."""

import os
import platform
from dataclasses import dataclass

import torch

from compresskit.environment import free_bytes, system_text
from compresskit.errors import DataError
from compresskit.units import bytes_text


@dataclass(frozen=True, slots=True)
class Machine:
    """Properties of a machine and of torch that a latency depends on besides the model."""

    processor: str
    """Name of the device that ran."""
    cores: int
    threads: int
    """Threads of one operation."""
    interop_threads: int
    load: float | None
    """Processes that were ready to run, on average over the last minute; None if the system does not report it."""
    governor: str | None
    """Policy for the clock of the CPU: `performance` is steady."""
    torch: str
    tf32: bool
    cudnn_benchmark: bool

    def __str__(self) -> str:
        load = "" if self.load is None else f", load {self.load}"
        return f"{self.processor}, {self.threads} of {self.cores} threads{load}, torch {self.torch}"


def describe_machine(device: torch.device) -> Machine:
    """Describe this machine as it is now."""
    processor = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return Machine(
        processor,
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        torch.get_num_threads(),
        torch.get_num_interop_threads(),
        round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        system_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        torch.__version__,
        bool(torch.backends.cuda.matmul.allow_tf32),
        torch.backends.cudnn.benchmark,
    )


def check_free_memory(option: str, needed: int, device: torch.device) -> None:
    """Refuse a real run that needs more memory than is free: without memory, the process dies without a message.

    Args:
        option: Option that requests the run, for the message.
        needed: Bytes of a copy of the weights, of inputs and of activations.
        device: Device of the run.

    Raises:
        DataError: The run does not fit.
    """
    free = free_bytes(device)
    if free is not None and needed > free:
        raise DataError(
            f"{option} needs a real run, which takes about {bytes_text(needed)}; {bytes_text(free)} are free on "
            f"{device}. Use a smaller input, or omit {option}: counting on the meta device needs no memory"
        )


def _processor() -> str:
    lines = (system_text("/proc/cpuinfo") or "").splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return model or platform.processor() or platform.machine()
