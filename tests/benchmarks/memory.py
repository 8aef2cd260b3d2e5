"""Peak memory of a step, against a step by hand of the same mathematics.

    OMP_NUM_THREADS=1 python tests/benchmarks/memory.py

ResNet-18 learns the scores and layer2 of ResNet-34, on 128 x 128 images, sixteen in a batch. Linux only: the peak is
the largest resident memory that the system reports during a step, minus the resident memory before it, with an
allocator that returns large blocks at once. Target: at most 1.02.
"""

import copy
import os
import re
import sys
from pathlib import Path

import torch
from interleaved import TakingTurns, report_ratio
from torch import Tensor
from torch.nn.functional import mse_loss
from torchvision.models import resnet18, resnet34

from compresskit import Match, ProgressiveDistiller, Stage

STEPS, SKIPPED = 16, 4


def resident(field: str) -> int:
    """Return VmRSS or VmHWM, in KB."""
    line = re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(line[1]) if line else 0


class Peaks(TakingTurns):
    """Loader that measures peaks of memory instead of time."""

    def batches(self, position):
        """Yield the batches from number `position` on, without end."""
        steps = super(TakingTurns, self).batches(position)
        for batch in steps:
            for side in ("other", "engine"):
                Path("/proc/self/clear_refs").write_text("5")  # resets the peak
                before = resident("VmRSS")
                if side == "other":
                    self.other_step(*batch.value)
                else:
                    yield batch
                getattr(self, side).append(resident("VmHWM") - before)


def main() -> None:
    """Take turns, and print the ratio of the peaks."""
    torch.manual_seed(0)
    teacher, student = resnet34().eval(), resnet18()
    mine = copy.deepcopy(student)
    optimizer = torch.optim.AdamW(mine.parameters(), lr=1e-3)
    samples = [(torch.randn(3, 128, 128), 0) for _ in range(16)]

    def by_hand(inputs: Tensor, _: Tensor) -> None:
        optimizer.zero_grad()
        features = {}
        hooks = [
            model.layer2.register_forward_hook(lambda *call, name=name: features.update({name: call[2]}))
            for name, model in (("teacher", teacher), ("student", mine))
        ]
        with torch.no_grad():
            theirs = teacher(inputs)
        ours = mine(inputs)
        (mse_loss(ours, theirs) + mse_loss(features["student"], features["teacher"])).backward()
        optimizer.step()
        for hook in hooks:
            hook.remove()

    turns = Peaks(samples, 16, by_hand)
    stage = Stage("s", matches=[Match("layer2"), Match("fc")], steps=STEPS)
    ProgressiveDistiller(teacher, student, [stage], device="cpu").fit(turns)
    ours, theirs = turns.engine[SKIPPED:], turns.other[SKIPPED:]
    print(f"peaks in MB: engine {ours[-1] / 1000:.0f}, by hand {theirs[-1] / 1000:.0f}")
    report_ratio("engine / by hand, peak memory", ours, theirs, block=1)


if __name__ == "__main__":
    allocator = {"MALLOC_MMAP_THRESHOLD_": "32768", "MALLOC_TRIM_THRESHOLD_": "0"}
    if not allocator.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **allocator})
    main()
