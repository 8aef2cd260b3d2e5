"""What other counters say about models whose truth is known."""

import builtins
import importlib

import pytest
import torch
from torch import nn

from compresskit import profile
from compresskit.profiling.checking import backends


def _verdicts(model, *inputs, **named):
    return {one.backend: one for one in profile(model, inputs, named, crosscheck=True).crosscheck}


def test_all_agree_on_what_all_can():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(), nn.AvgPool2d(2), nn.Upsample(scale_factor=2)
    )
    found = _verdicts(model, torch.rand(1, 3, 10, 10))
    assert {name: (one.verdict, one.macs) for name, one in found.items()} == dict.fromkeys(
        ("torch", "thop", "fvcore"), ("agrees", 4 * 8 * 8 * 27)
    )


def test_each_difference_has_its_reason():
    found = _verdicts(nn.ConvTranspose2d(3, 5, 2, stride=2), torch.rand(1, 3, 8, 8))
    truth = 8 * 8 * 3 * 5 * 4
    assert str(found["thop"]) == f"thop differs (ConvTranspose2d: {4 * truth:,} for {truth:,})"
    assert (found["torch"].verdict, found["fvcore"].verdict) == ("agrees", "agrees")

    found = _verdicts(nn.LSTM(3, 5), torch.rand(4, 2, 3))
    assert found["fvcore"].reason == "no formula for aten::lstm"
    assert found["thop"].reason.startswith("LSTM: ")

    class Product(nn.Module):
        def forward(self, x):
            return x @ x

    assert str(_verdicts(Product(), torch.rand(3, 3))["thop"]) == "thop differs (no rule for Product: 0 for 27)"


def test_a_fused_operation_that_torch_misses_is_named():
    class Deciding(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.LSTM(3, 5)

        def forward(self, x):
            return self.layer(x) if x.sum() < 1e9 else None

    verdict = _verdicts(Deciding(), torch.rand(4, 2, 3))["torch"]
    assert str(verdict) == "torch differs (no formula for mkldnn_rnn_layer)"
    assert (verdict.macs, verdict.expected) == (0, 4 * 2 * (20 * 3 + 20 * 5))


def test_what_reaches_no_output_explains_fvcore():
    class Wasteful(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 8, 1)

        def forward(self, x):
            x = self.body(x)
            self.head(x)
            return {"picture": x}

    found = _verdicts(Wasteful(), x=torch.rand(1, 3, 100, 100))  # by name, and returned in a mapping
    assert str(found["fvcore"]) == "fvcore differs (leaves out what reaches no output: head)"
    assert found["fvcore"].inputs == ("x=1x3x32x32 float32",)  # small, as it needs a real run
    assert found["fvcore"].expected == 32 * 32 * (9 + 24)
    assert (found["torch"].verdict, found["thop"].verdict) == ("agrees", "agrees")


@pytest.mark.parametrize("name", ["thop", "fvcore"])
def test_one_that_is_not_there_is_said_to_be_not_installed(name, monkeypatch):
    real_import, real_module = builtins.__import__, importlib.import_module

    def refuse(module, *args, **kwargs):
        if module.partition(".")[0] == name:
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real_import(module, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.setattr(backends.importlib, "import_module", lambda module: refuse(module) and real_module(module))
    found = _verdicts(nn.Linear(2, 2), torch.rand(2))
    assert str(found[name]) == f"{name} not installed (No module named {name!r})"
    assert found["torch"].verdict == "agrees"


def test_another_package_of_thops_name_is_not_trusted(monkeypatch):
    def missing(name):
        raise backends.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(backends.importlib.metadata, "version", missing)
    assert _verdicts(nn.Linear(2, 2), torch.rand(2))["thop"].verdict == "not installed"


def test_one_that_stumbles_says_over_what():
    model = nn.Linear(2, 2)
    model.total_ops = 3  # thop wants the name for itself
    found = _verdicts(model, torch.rand(2))
    assert str(found["thop"]) == "thop cannot run (KeyError: \"attribute 'total_ops' already exists\")"
    assert found["fvcore"].verdict == "agrees"


def test_doubts_are_what_is_uncounted_and_what_differs_without_a_reason():
    class Sorting(nn.Module):
        def forward(self, x):
            return x.sort().values

    report = profile(Sorting(), torch.rand(4))
    assert report.doubts == ["sort is not counted"]
    assert profile(nn.ConvTranspose2d(3, 5, 2, stride=2), torch.rand(1, 3, 8, 8), crosscheck=True).doubts == []
