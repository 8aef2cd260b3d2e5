"""Modules that no output depends on."""

import torch
from torch import nn

from compresskit import profile


class Forked(nn.Module):
    """Module with a branch that is returned and one that is thrown away."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(10, 20, bias=False)
        self.kept = nn.Linear(20, 5, bias=False)
        self.lost = nn.Sequential(nn.Linear(20, 30, bias=False), nn.ReLU(), nn.Linear(30, 1, bias=False))

    def forward(self, x):
        x = self.stem(x)
        self.lost(x)
        return {"answer": self.kept(x)}


def test_a_module_that_reaches_no_output_is_named_once_with_its_macs():
    report = profile(Forked(), torch.rand(2, 10))
    assert [(part.module, part.macs) for part in report.dead] == [("lost", 2 * (20 * 30 + 30))]
    assert report.dead_macs == 2 * (20 * 30 + 30)
    assert "lost: computed, and no output depends on it" in str(report)


class Remembering(nn.Module):
    """Module that writes one result into a buffer, and reads another in Python."""

    def __init__(self):
        super().__init__()
        self.register_buffer("memory", torch.zeros(4))
        self.inner, self.judge, self.outer = (nn.Linear(4, 4) for _ in range(3))

    def forward(self, x):
        self.memory.copy_(self.inner(x)[0])
        if self.judge(x).sum() > 0:
            return self.outer(x)
        return self.outer(x)


def test_writes_to_buffers_and_reads_by_python_are_not_dead_code():
    report = profile(Remembering(), torch.rand(2, 4))
    assert (report.route, report.dead) == ("cpu", ())


def test_work_hidden_behind_numpy_is_not_called_dead():
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return torch.from_numpy(self.layer(x).numpy()) * 2

    assert profile(Hidden(), torch.rand(2, 4)).dead == ()
