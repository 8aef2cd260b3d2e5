"""A complete, tiny recipe: points in four dimensions and two small networks, without anything of cameras."""

import sys
from pathlib import Path

import pytest

from compresskit import nodes

PARTS = '''
import os
import time

import torch
from torch import nn

from compresskit.data import rng


class Points:
    """Random points and three functions of them, new each epoch; slow on request, so that a run can be stopped."""

    def __init__(self, count: int = 24, seed: int = 0):
        self.count, self.seed = count, seed

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        time.sleep(float(os.environ.get("POINTS_DELAY", 0)))
        draw = rng(self.seed, index, getattr(index, "epoch", 0))
        point = torch.from_numpy(draw.standard_normal(4)).float()
        return point, torch.stack([point.sum(), point.prod(), point.max()])


def reversed_batch(samples):
    points, targets = zip(*reversed(samples))
    return torch.stack(points), torch.stack(targets)


class Centre(nn.Module):
    """Subtracts the mean of the data that it was fitted to."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.full((4,), torch.nan))
        self.fits = 0

    def fit_to(self, dataset):
        self.fits += 1
        self.mean.copy_(torch.stack([dataset[index][0] for index in range(len(dataset))]).mean(0))

    def forward(self, points):
        return points - self.mean


class Zero(nn.Module):
    def forward(self, points):
        return torch.zeros_like(points[:, :3])


class Evaluation:
    """Minus the squared error of each point."""

    def __init__(self, dataset):
        self.dataset = dataset
        self.baselines = {"zero": Zero()}

    def per_sample(self, model):
        pairs = [self.dataset[index] for index in range(len(self.dataset))]
        return {"score": [-(model(point[None])[0] - target).square().mean().item() for point, target in pairs]}

    def __call__(self, model):
        return {name: sum(values) / len(values) for name, values in self.per_sample(model).items()}

    def illustrate(self, models, folder):
        (folder / "models.txt").write_text(" ".join(models))
'''

RECIPE = """\
name: toy
seed: 3
teacher:
  _target_: torch.nn.Sequential
  _args_:
    - {_target_: toy_parts.Centre}
    - {_target_: torch.nn.Linear, in_features: 4, out_features: 16}
    - {_target_: torch.nn.Tanh}
    - {_target_: torch.nn.Linear, in_features: 16, out_features: 3}
student:
  _target_: torch.nn.Sequential
  _args_:
    - {_target_: toy_parts.Centre}
    - {_target_: torch.nn.Linear, in_features: 4, out_features: 8}
    - {_target_: torch.nn.Dropout, p: 0.2}
    - {_target_: torch.nn.Linear, in_features: 8, out_features: 3}
data:
  train: {_target_: toy_parts.Points}
  test: {_target_: toy_parts.Points, count: 5, seed: 9}
  batch_size: 8
pretrain:
  - {name: fit, steps: 6, tasks: [mse]}
stages:
  - name: features
    steps: 4
    train: upstream
    matches:
      - {student: "1", loss: mse, weight: 0.5}
  - name: output
    steps: 6
    clip: 1.0
    matches: ["."]
    tasks: [{loss: l1, weight: 1e-1}]
    optimizer: {_target_: torch.optim.SGD, lr: 1e-2, momentum: 0.9}
    scheduler: {_target_: compresskit.schedules.WarmupCosine, warmup: 0.5}
control: true
evaluate: {_target_: toy_parts.Evaluation}
presets:
  quick: {}
  longer: {stages.0.steps: 8}
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """`toy.yaml` in the current folder. Its parts may be imported, and are removed from the modules afterwards."""
    (tmp_path / "toy_parts.py").write_text(PARTS, encoding="utf-8")
    (tmp_path / "toy.yaml").write_text(RECIPE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with nodes.allow(["toy_parts"]):
        yield Path("toy.yaml")
    sys.modules.pop("toy_parts", None)


@pytest.fixture
def edited(toy):
    """Edit one thing in the recipe."""

    def edit(old: str, new: str) -> Path:
        assert RECIPE.count(old) >= 1, old
        toy.write_text(RECIPE.replace(old, new, 1), encoding="utf-8")
        return toy

    return edit
