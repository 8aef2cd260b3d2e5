"""Whole calls of `fit`, including set-up, against the same training by hand and in torchdistill.

    OMP_NUM_THREADS=1 python tests/benchmarks/from_outside.py
    OMP_NUM_THREADS=2 python tests/benchmarks/from_outside.py

Both sides train from fresh copies, in turns; a ratio is the median over pairs of neighbours. Targets: set-up of four
stages of ResNet-34 to ResNet-18 at most 3 forwards of both; 600 steps of the tiny pair at most 1.06 of a loop by hand;
four stages of 16 steps at least 1.6 times as fast as torchdistill.
"""

import copy
import logging
import time
from collections.abc import Callable
from statistics import median

import torch
from curriculum import POINTS, RATE, Theirs
from interleaved import interval
from tiny_pair import MATCHES, net, step_by_hand
from torch import Tensor, nn
from torchvision.models import resnet18, resnet34

from compresskit import Match, ProgressiveDistiller, Stage, curricula
from compresskit.distill.training.loop import StageLoop

Batch = tuple[Tensor, Tensor]


def seconds(work: Callable[[], object]) -> float:
    """Return the wall-clock time of a call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_turns(name: str, ours: Callable[[], object], theirs: Callable[[], object], pairs: int) -> None:
    """Time two calls alternately and print the ratio ours / theirs."""
    ours(), theirs()
    ratios = []
    for number in range(pairs):
        first, second = (ours, theirs) if number % 2 else (theirs, ours)
        times = {first: seconds(first), second: seconds(second)}
        ratios.append(times[ours] / times[theirs])
    low, middle, high = interval(ratios)
    print(f"{name}: {middle:.3f} [{low:.3f}, {high:.3f}], {pairs} pairs, {torch.get_num_threads()} threads")


def set_up(teacher: nn.Module, student: nn.Module, batch: Batch) -> None:
    """Print the time of `fit` outside its training steps, in forwards of both models."""
    stages = resnet_stages(1)
    training = [0.0]
    step = StageLoop.train_step

    def timed_step(loop: StageLoop, *arguments: object) -> dict:
        began = time.perf_counter()
        record = step(loop, *arguments)
        training[0] += time.perf_counter() - began
        return record

    def forwards() -> None:
        with torch.no_grad():
            teacher(batch[0]), student(batch[0])

    StageLoop.train_step = timed_step
    ratios = []
    for _ in range(9):
        distiller = ProgressiveDistiller(teacher, copy.deepcopy(student), stages, device="cpu")
        training[0] = 0.0
        whole = seconds(lambda distiller=distiller: distiller.fit([batch] * 4))
        ratios.append((whole - training[0]) / median(seconds(forwards) for _ in range(3)))
    StageLoop.train_step = step
    low, middle, high = interval(ratios[1:])
    print(f"set-up of four stages / forward of both models: {middle:.2f} [{low:.2f}, {high:.2f}]")


def resnet_stages(steps: int) -> list[Stage]:
    """Return the curriculum of `curriculum.py`."""
    optimizer = {"_target_": "torch.optim.SGD", "lr": RATE}
    matches = [Match(point) for point in POINTS]
    return curricula.progressive(matches, steps=steps, mode="cumulative", optimizer=optimizer)


def tiny_pair(steps: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return the training of the tiny pair by the engine and by hand."""
    torch.manual_seed(0)
    teacher, student = net(8).eval(), net(4)
    batches = [(torch.randn(8, 3, 16, 16), torch.zeros(8, dtype=torch.long)) for _ in range(4)]

    def engine() -> None:
        stages = [Stage("s", matches=MATCHES, steps=steps)]
        ProgressiveDistiller(teacher, copy.deepcopy(student), stages, device="cpu").fit(batches)

    def by_hand() -> None:
        mine = copy.deepcopy(student).train()
        optimizer = torch.optim.AdamW(mine.parameters(), lr=1e-3)
        for number in range(steps):
            step_by_hand(teacher, mine, optimizer, batches[number % len(batches)][0])

    return engine, by_hand


def curriculum(
    teacher: nn.Module, student: nn.Module, batch: Batch, steps: int
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return the training of the ResNets in four stages, in torchdistill and by the engine."""

    def theirs() -> None:
        side = Theirs(copy.deepcopy(teacher), copy.deepcopy(student), steps)
        for _ in range(4 * steps):
            side.step(*batch)

    def ours() -> None:
        distiller = ProgressiveDistiller(
            copy.deepcopy(teacher), copy.deepcopy(student), resnet_stages(steps), device="cpu"
        )
        distiller.fit([batch])

    return theirs, ours


def main() -> None:
    """Print all ratios."""
    logging.disable(logging.INFO)
    torch.manual_seed(0)
    teacher, student = resnet34().eval(), resnet18()
    batch = torch.randn(8, 3, 96, 96), torch.zeros(8, dtype=torch.long)
    set_up(teacher, student, batch)
    for steps in (150, 600):
        in_turns(f"engine / by hand, tiny pair, {steps} steps", *tiny_pair(steps), pairs=15)
    for steps in (4, 16):
        in_turns(f"torchdistill / engine, {steps} steps a stage", *curriculum(teacher, student, batch, steps), pairs=5)


if __name__ == "__main__":
    main()
