"""Figures of each module."""

import torch
from torch import nn

from compresskit import profile

FLOAT = 4


def test_layers_add_up_and_know_their_calls_and_shapes():
    shared = nn.Linear(6, 6)
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 6), shared), shared, nn.Identity())
    report = profile(model, torch.rand(3, 4))
    rows = {layer.path: layer for layer in report.layers}
    assert list(rows) == ["", "0", "0.0", "0.1", "2"]  # the shared layer once, under its first path
    assert rows["0.1"].calls == 2
    assert rows["0.1"].macs == 2 * 3 * 36
    assert (rows["0.0"].output_shape, rows["0.0"].output_bytes) == ((3, 6), 3 * 6 * FLOAT)
    assert (rows[""].parameters, rows["0"].parameters) == (30 + 42, 30 + 42)
    assert sum(layer.own_macs for layer in report.layers) == report.macs == rows[""].macs
    assert [layer.depth for layer in report.layers] == [0, 1, 2, 2, 1]
