"""The parts of the run of reliability.py, which copies this file beside the recipe: slow or deadly on request."""

import itertools
import os
import signal
import time
from pathlib import Path

import torch
from torch import nn

from compresskit.data import rng
from compresskit.distill.session import run_folder

run_folder.CHECKPOINT_SECONDS = 0.0
DELAY = float(os.environ.get("DELAY", "0"))
MOMENT, _, COUNT = os.environ.get("DIE", "").partition(":")
moments = itertools.count(1)


def die_at_the_moment():
    """Count to the moment that DIE names, and end this process there as a power cut would."""
    if next(moments) == int(COUNT):
        os.kill(os.getpid(), signal.SIGKILL)


if MOMENT:
    write, replace = Path.write_bytes, Path.replace

    def half_written(path, content):
        if MOMENT == "half" and path.name.endswith(".pt.part"):
            write(path, bytes(content)[: len(content) // 2])
            die_at_the_moment()
        return write(path, content)

    def not_yet_in_place(path, target):
        if MOMENT == "before" and path.name.endswith(".pt.part"):
            die_at_the_moment()
        done = replace(path, target)
        if MOMENT == "between" and "-000" not in path.name and path.name.endswith(".pt.part"):
            die_at_the_moment()
        return done

    Path.write_bytes, Path.replace = half_written, not_yet_in_place


class Points:
    variants = 2

    def __init__(self, count=24, seed=0):
        self.count, self.seed = count, seed

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        time.sleep(DELAY)
        draw = rng(self.seed, index, getattr(index, "epoch", 0) % self.variants)
        point = torch.from_numpy(draw.standard_normal(4)).float()
        return point, torch.stack([point.sum(), point.prod(), point.max()])


class Centre(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.full((4,), torch.nan))

    def fit_to(self, dataset):
        self.mean.copy_(torch.stack([dataset[index][0] for index in range(len(dataset))]).mean(0))

    def forward(self, points):
        return points - self.mean


class Evaluation:
    def __init__(self, dataset):
        self.dataset = dataset

    def per_sample(self, model):
        pairs = [self.dataset[index] for index in range(len(self.dataset))]
        return {"score": [-(model(point[None])[0] - target).square().mean().item() for point, target in pairs]}
