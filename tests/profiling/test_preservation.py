"""The model and the process are the same after a profile as before, also after a failure."""

import random
import sys
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compresskit import compare, profile
from compresskit.profiling.checking import backends
from compresskit.profiling.counting.copies import guard


class Restless(nn.Module):
    """Module that changes all it can when it runs, and fails on request."""

    def __init__(self, *, fails=False):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.attention = nn.MultiheadAttention(4, 1, batch_first=True)
        self.drop = nn.Dropout()
        self.register_buffer("seen", torch.zeros(2))
        self.calls, self.log, self.fails = 0, [], fails
        self.norm.eval()

    def forward(self, picture):
        self.calls += 1
        self.log.append(self.calls)
        self.seen += 1
        self.norm.train()
        self.late = self.calls
        self.stem.register_forward_hook(lambda *_: None)
        features = self.norm(self.stem(picture)) + torch.rand(()) + random.random() + np.random.rand()
        tokens = features.flatten(2).transpose(1, 2)
        if self.fails:
            raise KeyError("a mistake of the user's own")
        return self.drop(self.attention(tokens, tokens, tokens)[0])


def _state(model):
    return {
        "values": {name: (id(tensor), tensor.clone()) for name, tensor in model.state_dict(keep_vars=True).items()},
        "modes": [(name, module.training) for name, module in model.named_modules()],
        "attributes": [(name, sorted(vars(module))) for name, module in model.named_modules()],
        "hooks": [[len(module._forward_hooks), len(module._forward_pre_hooks)] for module in model.modules()],
        "flags": [(name, parameter.requires_grad, parameter.grad) for name, parameter in model.named_parameters()],
        "plain": {key: value for key, value in vars(model).items() if isinstance(value, int | list | bool)},
        "calls": (model.calls, list(model.log)),
        "random": (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()),
        "functions": [_functions(space) for space in (torch, F, nn, torch.Tensor)],
        "modules' own": _functions(nn.Module),
        "hooks of all": [len(hooks) for hooks in _hooks_of_all()],
        "fast path": torch.backends.mha.get_fastpath_enabled(),
        "filters": list(warnings.filters),
        "gradients": torch.is_grad_enabled(),
        "streams": (sys.stdout, sys.stderr),
    }


def _functions(space):
    return {name: id(value) for name, value in vars(space).items() if callable(value)}


def _hooks_of_all():
    space = vars(torch.nn.modules.module)
    return [value for name, value in space.items() if name.startswith("_global") and hasattr(value, "__len__")]


def _same(before, after):
    values, others = before.pop("values"), after.pop("values")
    assert values.keys() == others.keys()
    for name, (identity, tensor) in values.items():
        assert (others[name][0], bool(torch.equal(others[name][1], tensor))) == (identity, True), name
    assert before == after


PICTURE = torch.rand(1, 3, 32, 32)
EVERYTHING = {"crosscheck": True, "latency": True, "memory": True, "receptive_field": True, "max_seconds": 0.05}


def _warm_up():
    """Run once before: what is imported at its first use adds names to torch, which is not a patch."""
    profile(nn.Conv2d(3, 3, 1), PICTURE, **EVERYTHING)


@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=["counted", "everything"])
def test_a_profile_changes_nothing(options):
    _warm_up()
    model = Restless()
    before = _state(model)
    report = profile(model, PICTURE, **options)
    _same(before, _state(model))
    assert report.macs > 0
    assert all(verdict.verdict != "cannot run" for verdict in report.crosscheck)


def test_a_failed_profile_changes_nothing():
    _warm_up()
    model = Restless(fails=True)
    before = _state(model)
    with pytest.raises(KeyError, match="of the user's own"):
        profile(model, PICTURE, **EVERYTHING)
    _same(before, _state(model))


@pytest.mark.parametrize("backend", ["torch", "thop", "fvcore"])
def test_a_backend_that_fails_changes_nothing_and_reports_its_error(backend, monkeypatch):
    _warm_up()
    model = Restless()
    right = getattr(backends, f"{backend}_macs")

    def ruinous(copied, call):
        right(copied, call)
        copied.fails = True
        return right(copied, call)

    monkeypatch.setattr(backends, f"{backend}_macs", ruinous)
    before = _state(model)
    report = profile(model, PICTURE, crosscheck=True)
    _same(before, _state(model))
    verdicts = {verdict.backend: verdict for verdict in report.crosscheck}
    assert verdicts.pop(backend).verdict == "cannot run"
    assert {verdict.verdict for verdict in verdicts.values()} <= {"agrees", "differs"}


def test_a_comparison_changes_nothing():
    _warm_up()
    one, other = Restless(), Restless()
    before = [_state(one), _state(other)]
    compare({"one": one, "other": other}, PICTURE, latency=True, max_seconds=0.05)
    for model, state in zip((one, other), before, strict=True):
        _same(state, _state(model))


def _ruin(model):
    model(PICTURE)
    model.seen = torch.ones(7)
    model.stem.weight.requires_grad_(requires_grad=False)
    raise ZeroDivisionError


def test_the_guard_restores_what_escapes_a_copy():
    """A forward that is bound to the original changes it, wherever it is called from."""
    model = Restless()
    model.forward = type(model).forward.__get__(model)
    before = _state(model)
    with pytest.raises(ZeroDivisionError), guard(model):
        _ruin(model)
    after = _state(model)
    for state in (before, after):
        state.pop("calls"), state.pop("plain")  # the very lists are its own
    _same(before, after)


def test_buffers_that_cannot_be_compared_do_not_stop_the_guard():
    model = nn.Linear(2, 2)
    model.register_buffer("table", torch.eye(3).to_sparse())
    model.register_buffer("gaps", torch.tensor([torch.nan]))
    assert profile(model, torch.rand(2)).macs == 4
    assert torch.equal(model.table.to_dense(), torch.eye(3))
