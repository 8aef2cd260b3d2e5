"""A staged curriculum, ResNet-34 to ResNet-18, against the same curriculum in torchdistill.

    OMP_NUM_THREADS=1 python tests/benchmarks/curriculum.py

Match points conv1, layer1, layer2, layer3, one more in each stage; 96 x 96 images, eight in a batch, the same number of
steps in each stage. torchdistill runs both models to their end in every step; the engine stops after the last tap.
Target: at least 1.7 times as fast in total, with equal losses. The first steps of a stage are excluded on both sides.
"""

import copy
import logging

import torch
from interleaved import TakingTurns, report_ratio
from torch import Tensor, nn
from torchdistill.core.distillation import DistillationBox
from torchvision.models import resnet18, resnet34

from compresskit import Match, ProgressiveDistiller, curricula

POINTS = ("conv1", "layer1", "layer2", "layer3")
STEPS, SKIPPED, RATE = 14, 2, 0.01


def their_stage(points: tuple[str, ...]) -> dict:
    """Return the configuration of one stage in torchdistill."""
    hooks = {"forward_proc": "forward_batch_only", "forward_hook": {"input": [], "output": list(points)}}
    terms = {
        point: {
            "criterion": {"key": "MSELoss", "kwargs": {}},
            "criterion_wrapper": {
                "key": "SimpleLossWrapper",
                "kwargs": {
                    "input": {"is_from_teacher": False, "module_path": point, "io": "output"},
                    "target": {"is_from_teacher": True, "module_path": point, "io": "output"},
                },
            },
            "weight": 1.0,
        }
        for point in points
    }
    return {
        "num_epochs": 1,
        "teacher": {**hooks, "requires_grad": False},
        "student": dict(hooks),
        "optimizer": {"key": "SGD", "kwargs": {"lr": RATE}},
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": terms}},
    }


class Theirs:
    """The same curriculum in torchdistill, with a box of its own for each stage."""

    def __init__(self, teacher: nn.Module, student: nn.Module, steps: int = STEPS) -> None:
        self.teacher, self.student, self.steps = teacher, student, steps
        self.losses: list[float] = []
        self.box: DistillationBox | None = None

    def step(self, inputs: Tensor, targets: Tensor) -> None:
        """Run one step, in a new box at the beginning of a stage."""
        if len(self.losses) % self.steps == 0:
            self._begin(POINTS[: len(self.losses) // self.steps + 1])
        loss = self.box.forward_process(inputs, targets, None)
        self.box.post_forward_process(loss=loss)
        self.losses.append(loss.item())

    def _begin(self, points: tuple[str, ...]) -> None:
        if self.box is not None:
            self.box.clean_modules()
        config = their_stage(points)
        self.box = DistillationBox(
            self.teacher, self.student, {}, config, torch.device("cpu"), None, distributed=False, lr_factor=1.0
        )
        self.box.pre_epoch_process(epoch=0)


def main() -> None:
    """Take turns through all stages, and print the ratios."""
    logging.disable(logging.INFO)
    torch.manual_seed(0)
    teacher, student = resnet34().eval(), resnet18()
    theirs = Theirs(copy.deepcopy(teacher), copy.deepcopy(student))
    samples = [(torch.randn(3, 96, 96), 0) for _ in range(8)]
    stages = curricula.progressive(
        [Match(point) for point in POINTS],
        steps=STEPS,
        mode="cumulative",
        optimizer={"_target_": "torch.optim.SGD", "lr": RATE},
    )
    turns = TakingTurns(samples, 8, theirs.step)
    result = ProgressiveDistiller(teacher, student, stages, device="cpu").fit(turns)
    ours = [sum(term["value"] for term in record["terms"].values()) for record in result.history]
    worst = max(abs(a - b) / b for a, b in zip(ours, theirs.losses, strict=False))
    positions = range(SKIPPED, STEPS - 1)  # the last step includes the end of the stage and the beginning of the next
    for number, point in enumerate(POINTS):
        steps = [number * STEPS + step for step in positions]
        report_ratio(f"to {point}", [turns.other[k] for k in steps], [turns.engine[k] for k in steps], block=1)
    rows = [[number * STEPS + step for number in range(len(POINTS))] for step in positions]
    totals = [[sum(side[k] for k in row) for row in rows] for side in (turns.other, turns.engine)]
    report_ratio("torchdistill / engine, in total", totals[0], totals[1], block=1)
    print(f"largest relative difference of the losses: {worst:.1e}")


if __name__ == "__main__":
    main()
