"""The environment of a run: versions, machine, free memory, and the commit of the code."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("compresskit", "torch", "torchvision", "numpy", "scikit-image", "scikit-learn", "pillow", "safetensors")

_CONTROL_GROUPS = {
    1: (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"),
}
"""Folder of control groups by version, the files of a group's limit and use, and the statistic of cached files."""


def environment(device: torch.device) -> dict[str, Any]:
    """Return the environment of one session of a run as plain data."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "commit": commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "cpu_cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def commit() -> str | None:
    """Return the commit of compresskit's checkout, marked if files differ from it; None without a checkout."""
    root = Path(__file__).parents[1]
    if _git(root, "rev-parse", "--show-toplevel") != str(root.resolve()):
        return None  # installed: a repository around the environment says nothing about this code
    head = _git(root, "rev-parse", "HEAD")
    return f"{head} with changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else head


def free_bytes(device: torch.device) -> int | None:
    """Return the memory of a device that is free for this process; None if the system does not report it.

    On the CPU that is what the machine has left, or less if a control group around the process, such as a container,
    has a limit. Cached files count as free.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    lines = (system_text("/proc/meminfo") or "").splitlines()
    available = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    return min([*available, *_left_by_control_groups()], default=None)


def system_text(path: str | Path) -> str | None:
    """Return the content of a file in which the system describes itself; None if there is none."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _left_by_control_groups() -> Iterator[int]:
    """Yield the bytes that each control group around this process still allows, where it has a limit."""
    for line in (system_text("/proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, limit_file, used_file, cached = _CONTROL_GROUPS[1 if controllers else 2]
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):  # in a container perhaps only the root, which is then the container's
            limit, used = system_text(folder / limit_file), system_text(folder / used_file)
            if limit is not None and used is not None and limit.isdigit():  # version 2 says "max" if there is none
                statistics = (system_text(folder / "memory.stat") or "").splitlines()
                files = sum(int(entry.split()[1]) for entry in statistics if entry.startswith(f"{cached} "))
                yield max(0, int(limit) - int(used) + files)
            if folder == root:
                break


def _git(root: Path, *command: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *command], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
