import weakref
from contextlib import suppress
from threading import Thread

import pytest
import torch
from torch import nn

from compresskit import Match, ProgressiveDistiller, Stage
from compresskit.distill.taps.taps import Taps


def test_the_forward_stops_after_the_last_tap():
    ran = []
    model = nn.Sequential(*(nn.Identity() for _ in range(4)))
    for number, layer in enumerate(model):
        layer.register_forward_hook(lambda *_, number=number: ran.append(number))
    with Taps(model, ["0", "1"]) as taps:
        taps.forward(torch.ones(1))
    assert ran == [0, 1]


def test_a_stopped_forward_holds_no_activations():
    activations = []

    class Records(nn.Module):
        def forward(self, x):
            y = x + 1
            activations.append(weakref.ref(y))
            return self.last(y)

    model = Records()
    model.last = nn.Identity()
    with Taps(model, ["last"]) as taps:
        taps.forward(torch.ones(1))
        taps.clear()
        assert activations[0]() is None


def test_a_model_that_catches_exceptions_is_still_stopped(read):
    class Careful(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Identity(), nn.Identity()

        def forward(self, x):
            try:
                return self.first(x)
            except Exception:  # noqa: BLE001
                return self.second(x)

    assert read(Careful(), "first", torch.ones(1)).item() == 1.0


class Stubborn(nn.Module):
    """A model of two layers with three ways to catch any exception from the first."""

    def __init__(self, way):
        super().__init__()
        self.first, self.second = nn.Identity(), nn.Identity()
        self.way = way

    def forward(self, x):
        return self.second(getattr(self, self.way)(x))

    def falls_back(self, x):
        with suppress(BaseException):
            return self.first(x)
        return self.second(x)

    def suppresses(self, x):
        with suppress(BaseException):
            x = self.first(x)
        return x

    def tries_again(self, x):
        for _ in range(2):
            with suppress(BaseException):
                return self.first(x)
        raise RuntimeError("twice in vain")


@pytest.mark.parametrize("way", ["falls_back", "suppresses", "tries_again"])
def test_a_model_that_catches_everything_runs_nothing_past_the_last_tap(way):
    model, ran = Stubborn(way), []
    model.second.register_forward_pre_hook(lambda *_: ran.append("second"))
    with Taps(model, ["first"]) as taps:
        for number in (1.0, 2.0, 3.0):
            assert taps.forward(torch.tensor(number))["first"].item() == number
            assert not torch.nn.modules.module._global_forward_pre_hooks
    assert not ran


def test_other_threads_go_on_while_one_is_stopped(read):
    other, outputs = nn.Identity(), []

    class Waits(Stubborn):
        def suppresses(self, x):
            with suppress(BaseException):
                self.first(x)
            thread = Thread(target=lambda: outputs.append(other(x)))
            thread.start()
            thread.join()
            return x

    assert read(Waits("suppresses"), "first", torch.ones(1)).item() == 1.0
    assert len(outputs) == 1


def test_the_model_may_fail_behind_the_last_tap():
    class Boom(nn.Module):
        def forward(self, _):
            raise ZeroDivisionError

    stage = Stage("s", matches=[Match("0")], steps=1)
    model, teacher = (nn.Sequential(nn.Linear(3, 3), Boom()) for _ in range(2))
    ProgressiveDistiller(teacher, model, [stage]).fit([torch.randn(4, 3)])
