"""Second and later passes with the teacher cache, against steps of the same student without a teacher.

    OMP_NUM_THREADS=1 python tests/benchmarks/cached.py [SIDE]

PyNET-QxQ learns the output of PyNET (width 32), on crops of SIDE pixels (128 by default), four in a batch. Target: at
most 1.05.
"""

import copy
import sys
import tempfile
from pathlib import Path
from statistics import median

import torch
from interleaved import TakingTurns, report_ratio
from torch import Tensor
from torch.nn.functional import mse_loss

from compresskit import Match, ProgressiveDistiller, Stage
from zoo.pynet import PyNET, PyNETQxQ

BATCHES, BATCH_SIZE, PASSES = 3, 4, 8


def main() -> None:
    """Run one pass with the teacher, then passes with the cache alone, and print the ratios."""
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 128
    torch.manual_seed(0)
    teacher, student = PyNET(width=32), PyNETQxQ(width=16)
    alone = copy.deepcopy(student)
    optimizer = torch.optim.AdamW(alone.parameters(), lr=1e-3)
    samples = [(torch.rand(4, side // 2, side // 2), torch.rand(3, side, side)) for _ in range(BATCHES * BATCH_SIZE)]

    def without_teacher(inputs: Tensor, targets: Tensor) -> None:
        optimizer.zero_grad()
        loss = mse_loss(alone(inputs), targets)
        loss.backward()
        optimizer.step()
        loss.item()

    with tempfile.TemporaryDirectory() as folder:
        for location, cache_folder in (("in memory", None), ("in a folder", folder)):
            turns = TakingTurns(samples, BATCH_SIZE, without_teacher)
            cache = {"budget": "1GB", "folder": cache_folder}
            stage = Stage("s", matches=[Match(".")], steps=BATCHES * PASSES)
            distiller = ProgressiveDistiller(teacher, copy.deepcopy(student), [stage], device="cpu", cache=cache)
            result = distiller.fit(turns)
            assert result.stages[0].recalled == (PASSES - 1) / PASSES
            first = [a / b for a, b in zip(turns.engine[1:BATCHES], turns.other[1:BATCHES], strict=True)]
            print(f"first pass / no teacher, {location}: {median(first):.2f}")
            later = slice(BATCHES, len(turns.engine))
            report_ratio(f"later passes / no teacher, {location}", turns.engine[later], turns.other[later], block=1)
        sizes = sum(file.stat().st_size for file in Path(folder).rglob("*.safetensors"))
        print(f"on disk: {sizes / len(samples) / 1000:.1f} KB a sample for the output in fp32")


if __name__ == "__main__":
    main()
