"""One stage gives the gradients of the same distillation written by hand, with every loss of the catalogue."""

import copy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from compresskit import Match, ProgressiveDistiller, Stage, Task
from compresskit.losses import CATALOGUE, make_loss

OPTIONS = {"variational": {"channels": 6}, "perceptual": {"layers": ["relu1_1"]}}
SIDES = {"ms_ssim": 176, "perceptual": 12}


def net(channels, seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.Tanh(), nn.Conv2d(channels, channels, 1))


@pytest.fixture(scope="module")
def vgg(tmp_path_factory):
    path = tmp_path_factory.mktemp("vgg") / "vgg16.safetensors"
    save_file({"features.0.weight": torch.randn(64, 3, 3, 3), "features.0.bias": torch.zeros(64)}, path)
    return str(path)


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_gradients_are_those_of_the_same_mathematics_by_hand(name, vgg):
    entry = CATALOGUE[name]
    options = OPTIONS.get(name, {}) | ({"weights": vgg} if name == "perceptual" else {})
    channels, side = 3 if name == "perceptual" else 6, SIDES.get(name, 12)
    teacher, student = net(channels, 1), net(channels, 2)
    generator = torch.Generator().manual_seed(3)
    inputs = torch.rand(3, 3, side, side, generator=generator)
    labels = torch.randint(0, channels, (3, side, side), generator=generator)
    taps = ["1", "2"] if entry.several else "."
    supervised = name == "cross_entropy"
    term = Task(name, **options) if supervised else Match(taps, loss=name, weight=0.5, **options)
    stage = Stage("s", matches=[] if supervised else [term], tasks=[term] if supervised else [], steps=1)

    by_hand = copy.deepcopy(student)
    with ProgressiveDistiller(teacher, student, [stage]).stage(0, (inputs, labels)) as objective:
        objective.parameters()  # a loss with parameters would be trained along
        loss, _ = objective(inputs, labels)
        loss.backward()

    ours = by_hand(inputs)
    with torch.no_grad():
        theirs = teacher(inputs)
        between = teacher[:2](inputs)
    if entry.several:
        ours, theirs = (by_hand[:2](inputs), ours), (between, theirs)
    function = make_loss(entry, options)
    arguments = (ours, labels) if supervised else (ours, theirs, labels) if entry.labels else (ours, theirs)
    value = function(*arguments, **({} if entry.built else options))
    (value * (1.0 if supervised else 0.5)).backward()
    assert any(parameter.grad.abs().sum() > 0 for parameter in by_hand.parameters())
    for engine, hand in zip(student.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(engine.grad, hand.grad)
