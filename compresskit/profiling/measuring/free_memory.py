"""Whether a real run fits: asked before it starts, as running out of memory kills the process without a word."""

from pathlib import Path

import torch

from compresskit.errors import DataError
from compresskit.profiling.units import bytes_text


def check_room(what: str, needed: int, device: torch.device) -> None:
    """Refuse a real run that needs more memory than there is.

    Args:
        what: What wants to run, for the message.
        needed: Bytes of a copy of the weights, of inputs and of activations.
        device: Where it would run.

    Raises:
        DataError: It does not fit.
    """
    free = _free(device)
    if free is not None and needed > free:
        raise DataError(
            f"{what} needs a real run, and that about {bytes_text(needed)}; {bytes_text(free)} are free on {device}. "
            "Take a smaller input, or leave it out: counting on the meta device needs no memory"
        )


def _free(device: torch.device) -> int | None:
    """Free bytes; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    available = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)
    limits = [limit for limit in (available, _free_in_group()) if limit is not None]
    return min(limits, default=None)


def _free_in_group() -> int | None:
    """What a container's limit leaves."""
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / name).read_text(encoding="ascii").strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return None
    return int(limit) - int(used) if limit.isdigit() and used.isdigit() else None
