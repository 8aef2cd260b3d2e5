"""What a latency depends on besides the model."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine, and how torch uses it."""

    processor: str
    """The device that ran."""
    cores: int
    threads: int
    """Of one operation."""
    interop_threads: int
    load: float | None
    """Processes that wanted to run, on average over the last minute; None where the system does not tell."""
    governor: str | None
    """How the clock is set: `performance` is steady."""
    torch: str
    tf32: bool
    cudnn_benchmark: bool

    def __str__(self) -> str:
        load = "" if self.load is None else f", load {self.load}"
        return f"{self.processor}, {self.threads} of {self.cores} threads{load}, torch {self.torch}"


def machine(device: torch.device) -> Machine:
    """This machine, as it is now."""
    processor = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return Machine(
        processor,
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        torch.get_num_threads(),
        torch.get_num_interop_threads(),
        round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        torch.__version__,
        bool(torch.backends.cuda.matmul.allow_tf32),
        torch.backends.cudnn.benchmark,
    )


def _processor() -> str:
    lines = (_read("/proc/cpuinfo") or "").splitlines()
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return None
