"""The environment of a run: versions, machine, and the commit of the code."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("compresskit", "torch", "torchvision", "numpy", "scikit-image", "scikit-learn", "pillow", "safetensors")


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
