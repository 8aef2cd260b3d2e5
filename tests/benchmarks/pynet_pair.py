"""A step of the engine against a step by hand of the same mathematics: PyNET-QxQ learns the pictures of PyNET.

    OMP_NUM_THREADS=1 python tests/benchmarks/pynet_pair.py

Both have width 8 and no instance norm; crops of 64 pixels, four in a batch. The output is compared with the teacher's
and with the target. Target: the upper end of the ratio's interval is at most 1.02.
"""

import copy

import torch
import torch.nn.functional as F
from interleaved import TakingTurns, report_ratio
from torch import Tensor, nn

from compresskit import Match, ProgressiveDistiller, Stage, Task
from zoo.pynet import PyNET, PyNETQxQ

STEPS = 120


def pair() -> tuple[nn.Module, nn.Module]:
    """Return the teacher and the student, with the same weights each time."""
    torch.manual_seed(0)
    teacher = PyNET(width=8, instance_norm=False, instance_norm_level_1=False).eval()
    return teacher, PyNETQxQ(width=8, instance_norm_level_1=False)


def imitation(teacher: nn.Module, student: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return the loss by hand."""
    with torch.no_grad():
        guide = teacher(inputs)
    picture = student(inputs)
    return F.mse_loss(picture, guide) + F.mse_loss(picture, targets)


def main() -> None:
    """Take turns, and print the ratio of the times and the difference of the losses."""
    teacher, student = pair()
    mine = copy.deepcopy(student)
    samples = [(torch.rand(4, 32, 32), torch.rand(3, 64, 64)) for _ in range(4)]
    optimizer = torch.optim.AdamW(mine.parameters(), lr=1e-3)
    losses: list[float] = []

    def by_hand(inputs: Tensor, targets: Tensor) -> None:
        mine.train()
        loss = imitation(teacher, mine, inputs, targets)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in mine.parameters() if p.grad is not None])
        if not torch.isfinite(norm):
            raise ArithmeticError
        optimizer.step()
        losses.append(loss.item())

    stage = Stage("s", matches=[Match(".")], tasks=[Task("mse")], steps=STEPS)
    turns = TakingTurns(samples, 4, by_hand)
    result = ProgressiveDistiller(teacher, student, [stage], device="cpu").fit(turns)
    ours = [sum(term["value"] for term in record["terms"].values()) for record in result.history]
    worst = max(abs(a - b) / b for a, b in zip(ours, losses, strict=False))
    report_ratio("engine / by hand, PyNET to PyNET-QxQ", turns.engine[10:], turns.other[10:], block=5)
    print(f"largest relative difference of the losses over {STEPS} steps: {worst:.1e}")


if __name__ == "__main__":
    main()
