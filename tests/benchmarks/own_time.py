"""The engine's own time in a step: models, losses and the optimizer do almost nothing.

    OMP_NUM_THREADS=1 python tests/benchmarks/own_time.py

The other side is a loop by hand over the same modules and losses. Targets: 100 us a step and 10 us a match.
"""

import tempfile
from statistics import median

import torch
from interleaved import TakingTurns, interval
from torch import Tensor, nn
from torch.optim import Optimizer

from compresskit import Match, ProgressiveDistiller, Stage

STEPS = 600


class Identity(nn.Module):
    """A layer without work."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the input."""
        return x


class Student(nn.Module):
    """One parameter, then layers without work."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.layers = nn.ModuleList(Identity() for _ in range(layers))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the tensor after each layer."""
        x = x + self.weight
        outputs = []
        for layer in self.layers:
            x = layer(x)
            outputs.append(x)
        return outputs


class NoUpdate(Optimizer):
    """Optimizer that changes nothing."""

    def __init__(self, parameters: object) -> None:
        super().__init__(parameters, {"lr": 1.0})

    def step(self, closure: object = None) -> None:
        """Do nothing."""


def loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return a sum: the least work that has a gradient."""
    return (student - teacher).sum()


def own_time(matches: int, out: str | None) -> float:
    """Return the median time of a step beyond that of the loop by hand, in microseconds."""
    teacher, student, mine = Student(matches), Student(matches), Student(matches)
    optimizer = NoUpdate(mine.parameters())

    def by_hand(inputs: Tensor, _: Tensor) -> float:
        optimizer.zero_grad()
        with torch.no_grad():
            constants = teacher(inputs)
        terms = [loss(ours, theirs) for ours, theirs in zip(mine(inputs), constants, strict=True)]
        total = torch.stack(terms).sum()
        total.backward()
        optimizer.step()
        return total.item()

    stage = Stage(
        "s",
        matches=[Match(f"layers.{k}", loss=loss, adapter=None) for k in range(matches)],
        optimizer=NoUpdate,
        steps=STEPS,
    )
    turns = TakingTurns([(torch.zeros(1), torch.zeros(1))], 1, by_hand)
    ProgressiveDistiller(teacher, student, [stage], device="cpu", out=out).fit(turns)
    ours, theirs = turns.engine[50:], turns.other[50:]
    return 1e6 * median(a - b for a, b in zip(ours, theirs[: len(ours)], strict=True))


def main() -> None:
    """Measure 1 and 8 matches in several rounds, and print the time a step and, from the slope, a match."""
    for folder in (False, True):
        base, slope = [], []
        for _ in range(5):
            with tempfile.TemporaryDirectory() as place:
                few, many = (own_time(count, f"{place}/{count}" if folder else None) for count in (1, 8))
            slope.append((many - few) / 7)
            base.append(few - slope[-1])
        where = "with a folder" if folder else "without a folder"
        for name, values in (("a step", base), ("a match", slope)):
            low, middle, high = interval(values)
            print(f"own time, {where}: {middle:.1f} us {name}  [{low:.1f}, {high:.1f}]")


if __name__ == "__main__":
    main()
