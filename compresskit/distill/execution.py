"""The execution of a run: facts that every part of it reads and none changes."""

from dataclasses import dataclass, field

import torch

from compresskit.distill.precision import Precision
from compresskit.distill.processes import Processes


@dataclass(frozen=True, slots=True)
class Execution:
    """The seed, device, precision and processes of one run."""

    seed: int = 0
    """Seed of all random numbers."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Device of this process."""
    precision: Precision = field(default_factory=Precision)
    """Precision, memory format and compilation of the forwards."""
    processes: Processes = field(default_factory=Processes)
    """The processes that share the run."""
