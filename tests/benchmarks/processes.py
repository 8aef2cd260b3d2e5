"""Two processes of one thread each: against a loop by hand under torch's DDP, and against one process.

    python tests/benchmarks/processes.py

PyNET-QxQ learns from PyNET, both of width 8 without instance norm, on crops of 64 pixels, eight in each whole batch. In
two processes, the engine and the loop by hand take turns step by step. Runs in one process and in two take turns, too;
the limit of their ratio is 0.5, and measuring it needs a machine with two free cores.
"""

import copy
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import torch
import torch.distributed as dist
from interleaved import Fixed, TakingTurns, interval, report_ratio
from pynet_pair import imitation, pair
from torch.nn.parallel import DistributedDataParallel

from compresskit import Match, ProgressiveDistiller, Stage, Task
from compresskit.data import SampleLoader

STEPS, SKIPPED, ROUNDS = 40, 10, 5


def run(folder: str, *, by_hand: bool) -> None:
    """Train in one process of several, and write the seconds of its steps to the folder."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    teacher, student = pair()
    mine = DistributedDataParallel(copy.deepcopy(student))
    optimizer = torch.optim.AdamW(mine.parameters(), lr=1e-3)

    def step(inputs: torch.Tensor, targets: torch.Tensor) -> None:
        optimizer.zero_grad()
        loss = imitation(teacher, mine, inputs, targets)
        loss.backward()
        optimizer.step()
        loss.item()

    samples = Fixed((torch.rand(4, 32, 32), torch.rand(3, 64, 64)) for _ in range(8))
    loader = TakingTurns(samples, 8, step) if by_hand else SampleLoader(samples, 8)
    stage = Stage("s", matches=[Match(".")], tasks=[Task("mse")], steps=STEPS)
    result = ProgressiveDistiller(teacher, student, [stage], device="cpu").fit(loader)
    seconds = [8 / record["samples_per_s"] for record in result.history]
    if isinstance(loader, TakingTurns):
        seconds = [loader.engine, loader.other]
    Path(folder, str(dist.get_rank())).write_text(json.dumps(seconds))
    dist.destroy_process_group()


def measure(processes: int, *, by_hand: bool = False) -> list:
    """Return the seconds of the main process's steps in a run of so many processes."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    with tempfile.TemporaryDirectory() as folder:
        command = [*launch, __file__, folder, "by hand" if by_hand else "alone"]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True)
        return json.loads(Path(folder, "0").read_text())


def main() -> None:
    """Print both ratios."""
    turns = [measure(2, by_hand=True) for _ in range(ROUNDS)]
    ours, theirs = ([step for round_ in turns for step in round_[side][SKIPPED : STEPS - 1]] for side in (0, 1))
    report_ratio("engine / by hand under DDP, in two processes", ours, theirs, block=5)
    steps = [[median(measure(count)[SKIPPED:]) for count in (1, 2)] for _ in range(ROUNDS)]
    low, middle, high = interval([two / one for one, two in steps])
    print(f"two processes / one: {middle:.3f}  [{low:.3f}, {high:.3f}]")


if __name__ == "__main__":
    run(sys.argv[1], by_hand=sys.argv[2] == "by hand") if len(sys.argv) > 1 else main()
