"""Two processes of one thread each against one of one thread: the same steps, PyNET to PyNET-QxQ.

    python tests/benchmarks/processes.py

Both networks of width 8 without instance norm, crops of 64 pixels, eight in each whole batch. Runs of one process and
of two take turns; each gives the median time of its steps. The limit is 0.5, and a machine with two free cores.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from interleaved import interval

STEPS, SKIPPED, ROUNDS = 30, 5, 5


def run(folder: str) -> None:
    """What each process does."""
    import torch
    from interleaved import Fixed

    from compresskit import Match, ProgressiveDistiller, Stage, Task
    from compresskit.data import SampleLoader
    from zoo.pynet import PyNET, PyNETQxQ

    torch.set_num_threads(1)
    torch.manual_seed(0)
    teacher = PyNET(width=8, instance_norm=False, instance_norm_level_1=False)
    student = PyNETQxQ(width=8, instance_norm_level_1=False)
    samples = Fixed((torch.rand(4, 32, 32), torch.rand(3, 64, 64)) for _ in range(8))
    stage = Stage("s", matches=[Match(".")], tasks=[Task("mse")], steps=STEPS)
    result = ProgressiveDistiller(teacher, student, [stage], device="cpu").fit(SampleLoader(samples, 8))
    seconds = [8 / record["samples_per_s"] for record in result.history[SKIPPED:]]
    Path(folder, os.environ.get("RANK", "0")).write_text(json.dumps(median(seconds)))


def seconds(processes: int) -> float:
    """The median seconds of a step in so many processes."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([*launch, __file__, folder], check=True, env=environment, capture_output=True)
        return json.loads(Path(folder, "0").read_text())


def main() -> None:
    """Take turns, and tell the ratio."""
    ratios = []
    for _ in range(ROUNDS):
        one, two = seconds(1), seconds(2)
        ratios.append(two / one)
        print(f"a step in one process {one * 1000:.0f} ms, in two {two * 1000:.0f} ms", flush=True)
    low, middle, high = interval(ratios)
    print(f"two processes / one: {middle:.3f}  [{low:.3f}, {high:.3f}]")


if __name__ == "__main__":
    run(sys.argv[1]) if len(sys.argv) > 1 else main()
