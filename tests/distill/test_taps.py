import weakref
from contextlib import suppress
from threading import Thread

import pytest
import torch
from torch import nn

from compresskit.distill.spec.address import parse_address
from compresskit.distill.taps.taps import Taps
from compresskit.errors import TapError


class Thrice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1, bias=False)
        nn.init.constant_(self.layer.weight, 2.0)

    def forward(self, x):
        return self.layer(self.layer(self.layer(x)))


class Named(nn.Module):
    """Two inputs by name, a nested output."""

    def __init__(self):
        super().__init__()
        self.inner = Summed()

    def forward(self, left, right):
        return {"logits": self.inner(left, other=right), "all": (left, right)}


class Summed(nn.Module):
    def forward(self, first, other):
        return first + other


def read(model, address, *inputs, stop=True, clone=()):
    with Taps(model, [address], stop=stop, clone=clone) as taps:
        return taps.forward(inputs)[address]


@pytest.mark.parametrize(
    ("address", "value"),
    [("layer#0", 2.0), ("layer#1", 4.0), ("layer#-1", 8.0), ("layer#-3", 2.0), ("layer#1@in", 2.0), (".", 8.0)],
)
def test_a_call_counts_from_the_start_or_from_the_end(address, value):
    assert read(Thrice(), address, torch.ones(1, 1)).item() == value


@pytest.mark.parametrize(
    ("address", "value"),
    [
        ("inner", 5.0),
        ("inner@in", 2.0),
        ("inner@in[0]", 2.0),
        ("inner@in.other", 3.0),
        ("inner@in.first", 2.0),
        (".@out.logits", 5.0),
        (".@out['logits']", 5.0),
        (".@out.all[1]", 3.0),
        (".@in[1]", 3.0),
    ],
)
def test_selectors_walk_inputs_and_nested_outputs(address, value):
    assert read(Named(), address, torch.tensor(2.0), torch.tensor(3.0)).item() == value


def test_a_tuple_of_a_recurrent_layer_is_walked():
    lstm = nn.LSTM(3, 5)
    assert read(lstm, ".[1][0]", torch.randn(7, 2, 3)).shape == (1, 2, 5)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("lajer", "Thrice has no module 'lajer'; did you mean 'layer'?"),
        ("layer", "'layer' runs more than once in a forward; say which call: layer#0, …#-1"),
        ("layer#3", "the tap 'layer#3' captured nothing: its module ran 3 times, there is no such call"),
        ("layer#-4", "the tap 'layer#-4' captured nothing: its module ran 3 times, there is no such call"),
        ("layer#0[0", "address 'layer#0[0': cannot read '[0'"),
        ("", "'' is no address"),
        ("layer#0@in.nothing", "there is no .nothing in a dict with keys input"),
    ],
)
def test_a_wrong_address_is_named_with_what_would_be_right(address, message):
    with pytest.raises(TapError) as caught:
        read(Thrice(), address, torch.ones(1, 1), stop=False)
    assert message in str(caught.value)


def test_a_nested_output_without_selector_says_what_is_inside():
    with pytest.raises(TapError, match=r"a dict with keys logits, all, not a tensor"):
        read(Named(), ".", torch.tensor(2.0), torch.tensor(3.0))


def test_a_module_that_does_not_run_is_an_error_not_a_zero_loss():
    model = nn.Sequential(nn.Identity())
    model.unused = nn.Identity()
    model.forward = model[0].__call__
    with pytest.raises(TapError, match="its module did not run"):
        read(model, "unused", torch.ones(1))


def test_the_forward_stops_after_the_last_tap():
    ran = []
    model = nn.Sequential(*(nn.Identity() for _ in range(4)))
    for number, layer in enumerate(model):
        layer.register_forward_hook(lambda *_, number=number: ran.append(number))
    with Taps(model, ["0", "1"]) as taps:
        taps.forward(torch.ones(1))
    assert ran == [0, 1]


def test_a_stopped_forward_keeps_no_activation_alive():
    kept = []

    class Remembers(nn.Module):
        def forward(self, x):
            y = x + 1
            kept.append(weakref.ref(y))
            return self.last(y)

    model = Remembers()
    model.last = nn.Identity()
    with Taps(model, ["last"]) as taps:
        taps.forward(torch.ones(1))
        taps.clear()
        assert kept[0]() is None


def test_a_model_that_catches_exceptions_is_still_stopped():
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
    """Two layers, and three ways not to let an exception of any kind through the first."""

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


def test_other_threads_go_on_while_one_is_stopped():
    other, found = nn.Identity(), []

    class Waits(Stubborn):
        def suppresses(self, x):
            with suppress(BaseException):
                self.first(x)
            thread = Thread(target=lambda: found.append(other(x)))
            thread.start()
            thread.join()
            return x

    assert read(Waits("suppresses"), "first", torch.ones(1)).item() == 1.0
    assert len(found) == 1


def test_hooks_are_gone_after_an_exception():
    model = nn.Sequential(nn.Identity(), nn.Linear(2, 2))
    with pytest.raises(RuntimeError), Taps(model, ["0@in", "1"]) as taps:
        taps.forward(torch.ones(1, 3))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_tensor_that_is_overwritten_in_place_is_refused_unless_copied():
    model = nn.Sequential(nn.BatchNorm2d(2), nn.ReLU(inplace=True))
    inputs = torch.randn(4, 2, 3, 3)
    with pytest.raises(TapError, match="overwritten in place"):
        read(model, "0", inputs, stop=False)
    assert read(model, "0", inputs, stop=False, clone={"0"}).min() < 0


def test_an_address_keeps_what_the_user_wrote():
    address = parse_address("block.3#-1@in.query[0]")
    assert (address.path, address.call, address.port, address.selectors) == ("block.3", -1, "in", ("query", 0))
    assert str(address) == "block.3#-1@in.query[0]"


def test_a_compiled_model_is_read_below_the_wrapper():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    inputs = torch.randn(3, 2)
    torch.testing.assert_close(read(torch.compile(model), "0", inputs), model[0](inputs))


@pytest.mark.parametrize("address", ["0", "1.0", "1", "."])
def test_parts_that_their_owner_compiled_in_place_are_tapped(address):
    torch._dynamo.reset()
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    inputs = torch.randn(3, 2)
    found = read(model, address, inputs)
    model[1].compile(backend="eager")
    model.compile(backend="eager")
    model(inputs)
    torch.testing.assert_close(read(model, address, inputs), found)
    torch._dynamo.reset()
