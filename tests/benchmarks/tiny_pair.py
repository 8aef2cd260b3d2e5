"""A step of the engine against a step by hand of the same mathematics, on a pair so small that overhead shows.

    OMP_NUM_THREADS=1 python tests/benchmarks/tiny_pair.py

Four layers of width 16 learn from eight, on 16 x 16 images, eight in a batch: KL of the logits and four matches of
features. Target: the upper end of the ratio's interval is at most 1.05. Both sides check the gradient for NaN.
"""

import copy

import torch
import torch.nn.functional as F
from interleaved import TakingTurns, report_ratio
from torch import Tensor, nn

from compresskit import Match, ProgressiveDistiller, Stage

WIDTH, STEPS = 16, 800


def net(layers: int) -> nn.Sequential:
    """Return convolutions with batch norm, and a head for ten classes."""
    first = [_layer(3)]
    return nn.Sequential(*first, *(_layer(WIDTH) for _ in range(layers - 1)), Head())


def _layer(channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU())


class Head(nn.Module):
    """Mean over the image, then a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, 10) for features (n, WIDTH, h, w)."""
        return self.linear(x.mean((2, 3)))


def features(model: nn.Sequential, x: Tensor) -> list[Tensor]:
    """Return the output of each layer."""
    outputs = []
    for layer in model:
        x = layer(x)
        outputs.append(x)
    return outputs


MATCHES = [Match(str(k), str(2 * k + 1)) for k in range(4)] + [Match("4", "8", loss="kl", temperature=4.0)]


def step_by_hand(teacher: nn.Module, student: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor) -> float:
    """Do one optimizer step on the terms of `MATCHES`, and return their sum."""
    with torch.no_grad():
        theirs = features(teacher, inputs)
    ours = features(student, inputs)
    terms = [F.mse_loss(ours[k], theirs[2 * k + 1]) for k in range(4)]
    log_student, log_teacher = ((x / 4).log_softmax(1) for x in (ours[-1], theirs[-1]))
    terms.append(F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True) * 16)
    optimizer.zero_grad()
    loss = torch.stack(terms).sum()
    loss.backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in student.parameters() if p.grad is not None])
    if not torch.isfinite(norm):
        raise ArithmeticError
    optimizer.step()
    return loss.item()


def main() -> None:
    """Take turns, and print the ratio of the times and the difference of the losses."""
    torch.manual_seed(0)
    teacher, student = net(8), net(4)
    mine = copy.deepcopy(student)
    samples = [(torch.randn(3, 16, 16), 0) for _ in range(8)]
    optimizer = torch.optim.AdamW(mine.parameters(), lr=1e-3)
    teacher.eval()
    losses: list[float] = []

    def by_hand(inputs: Tensor, _: Tensor) -> None:
        mine.train()
        losses.append(step_by_hand(teacher, mine, optimizer, inputs))

    turns = TakingTurns(samples, 8, by_hand)
    result = ProgressiveDistiller(teacher, student, [Stage("s", matches=MATCHES, steps=STEPS)], device="cpu").fit(turns)
    ours = [sum(term["value"] for term in record["terms"].values()) for record in result.history]
    worst = max(abs(a - b) / b for a, b in zip(ours, losses, strict=False))
    report_ratio("engine / by hand, tiny pair", turns.engine[50:], turns.other[50:])
    print(f"largest relative difference of the losses over {STEPS} steps: {worst:.1e}")


if __name__ == "__main__":
    main()
