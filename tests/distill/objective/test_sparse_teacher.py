"""A teacher that gives only its best classes."""

import pytest
import torch
from torch import nn

from compresskit import Match, ProgressiveDistiller, Stage
from compresskit.losses import topk_kl


class Sparse(nn.Module):
    """A teacher whose output is the values and classes of its best logits."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 20)

    def forward(self, x):
        return self.head(x).topk(4, dim=-1)


@pytest.mark.parametrize("mask", [None, "keep"])
def test_a_match_reads_values_and_indices(mask):
    teacher, student, inputs = Sparse(), nn.Linear(6, 20), torch.randn(2, 3, 6)
    keep = torch.tensor([[1, 1, 0], [0, 1, 1]])
    match = Match(".", [".@out.values", ".@out.indices"], loss="topk_kl", mask=mask)
    plan = ProgressiveDistiller(teacher, student, [Stage("s", matches=[match], steps=1)]).plan((inputs, {"keep": keep}))
    rows = keep.bool() if mask else torch.ones(2, 3, dtype=torch.bool)
    best = teacher(inputs)
    expected = topk_kl(student(inputs)[rows], (best.values[rows], best.indices[rows]))
    assert plan.stages[0].terms[0].value == pytest.approx(expected.item(), rel=1e-5)
