"""Verdicts of other counters on models whose true count is known."""

import builtins
import importlib

import pytest
import torch
from torch import nn

from compresskit import profile
from compresskit.profiling.checking import backends


def _verdicts(model, *inputs, **named):
    return {one.backend: one for one in profile(model, inputs, named, crosscheck=True).crosscheck}


def test_all_counters_agree_on_operations_that_all_of_them_know():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(), nn.AvgPool2d(2), nn.Upsample(scale_factor=2)
    )
    verdicts = _verdicts(model, torch.rand(1, 3, 10, 10))
    assert {name: (one.verdict, one.macs) for name, one in verdicts.items()} == dict.fromkeys(
        ("torch", "thop", "fvcore"), ("agrees", 4 * 8 * 8 * 27)
    )


def test_each_difference_has_its_reason():
    verdicts = _verdicts(nn.ConvTranspose2d(3, 5, 2, stride=2), torch.rand(1, 3, 8, 8))
    truth = 8 * 8 * 3 * 5 * 4
    assert str(verdicts["thop"]) == f"thop differs (ConvTranspose2d: {4 * truth:,} for {truth:,})"
    assert (verdicts["torch"].verdict, verdicts["fvcore"].verdict) == ("agrees", "agrees")

    verdicts = _verdicts(nn.LSTM(3, 5), torch.rand(4, 2, 3))
    assert verdicts["fvcore"].reason == "no formula for aten::lstm"
    assert verdicts["thop"].reason.startswith("LSTM: ")

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


def test_dead_code_explains_the_difference_of_fvcore():
    class Wasteful(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 8, 1)

        def forward(self, x):
            x = self.body(x)
            self.head(x)
            return {"picture": x}

    verdicts = _verdicts(Wasteful(), x=torch.rand(1, 3, 100, 100))  # by name, and returned in a mapping
    assert str(verdicts["fvcore"]) == "fvcore differs (leaves out what reaches no output: head)"
    assert verdicts["fvcore"].inputs == ("x=1x3x32x32 float32",)  # small, as it needs a real run
    assert verdicts["fvcore"].expected == 32 * 32 * (9 + 24)
    assert (verdicts["torch"].verdict, verdicts["thop"].verdict) == ("agrees", "agrees")


@pytest.mark.parametrize("name", ["thop", "fvcore"])
def test_a_missing_counter_is_reported_as_not_installed(name, monkeypatch):
    real_import, real_module = builtins.__import__, importlib.import_module

    def refuse(module, *args, **kwargs):
        if module.partition(".")[0] == name:
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real_import(module, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.setattr(backends.importlib, "import_module", lambda module: refuse(module) and real_module(module))
    verdicts = _verdicts(nn.Linear(2, 2), torch.rand(2))
    assert str(verdicts[name]) == f"{name} not installed (No module named {name!r})"
    assert verdicts["torch"].verdict == "agrees"


def test_another_package_with_the_name_of_thop_is_not_used(monkeypatch):
    def missing(name):
        raise backends.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(backends.importlib.metadata, "version", missing)
    assert _verdicts(nn.Linear(2, 2), torch.rand(2))["thop"].verdict == "not installed"


def test_a_counter_that_fails_reports_its_error():
    model = nn.Linear(2, 2)
    model.total_ops = 3  # thop wants the name for itself
    verdicts = _verdicts(model, torch.rand(2))
    assert str(verdicts["thop"]) == "thop cannot run (KeyError: \"attribute 'total_ops' already exists\")"
    assert verdicts["fvcore"].verdict == "agrees"


def test_doubts_are_uncounted_operations_and_unexplained_differences():
    class Sorting(nn.Module):
        def forward(self, x):
            return x.sort().values

    report = profile(Sorting(), torch.rand(4))
    assert report.doubts == ["sort is not counted"]
    assert profile(nn.ConvTranspose2d(3, 5, 2, stride=2), torch.rand(1, 3, 8, 8), crosscheck=True).doubts == []
