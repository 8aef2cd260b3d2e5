"""Peak memory of one step of `kl` on 1,024 x 20,000 logits in float32: by hand, and in the engine (Linux only).

python tests/benchmarks/logits_memory.py
"""

import subprocess
import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from compresskit import Match, ProgressiveDistiller, Stage

WIDTH, CLASSES, BATCH = 64, 20_000, (8, 128)


class LanguageModel(nn.Module):
    """The last two layers of a language model."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.body, self.lm_head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES, bias=False)

    def forward(self, x):
        return self.lm_head(self.body(x))


def memory(name):
    """Return the process's resident memory (VmRSS) or its peak (VmHWM) in MB."""
    return int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0]) / 1000


def by_hand(teacher, student, inputs):
    with torch.no_grad():
        soft = teacher(inputs).softmax(-1)
    loss = F.kl_div(student(inputs).log_softmax(-1), soft, reduction="sum") / inputs.shape[:-1].numel()
    loss.backward()


def in_the_engine(teacher, student, inputs):
    stage = Stage("s", matches=[Match(".", loss="kl")], steps=3)
    with ProgressiveDistiller(teacher, student, [stage], device="cpu").stage(0, (inputs, None)) as objective:
        objective.parameters()
        Path("/proc/self/clear_refs").write_text("5")
        objective(inputs)[0].backward()


def measure(step):
    """Return the MB that a step takes beyond what was there before it."""
    teacher, student, inputs = LanguageModel(0), LanguageModel(1), torch.randn(*BATCH, WIDTH)
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    step(teacher, student, inputs)
    return memory("VmHWM") - before


if __name__ == "__main__":
    steps = {"by hand": by_hand, "in the engine": in_the_engine}
    if len(sys.argv) > 1:
        print(f"{sys.argv[1]}: {measure(steps[sys.argv[1]]):.0f} MB")
    else:
        for name in steps:
            subprocess.run([sys.executable, __file__, name], check=True)
