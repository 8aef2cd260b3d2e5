import pytest
import torch
from torch import nn

from compresskit import Match, ProgressiveDistiller, Stage
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
    """A model with two named inputs and a nested output."""

    def __init__(self):
        super().__init__()
        self.inner = Summed()

    def forward(self, left, right):
        return {"logits": self.inner(left, other=right), "all": (left, right)}


class Summed(nn.Module):
    def forward(self, first, other):
        return first + other


@pytest.mark.parametrize(
    ("address", "value"),
    [("layer#0", 2.0), ("layer#1", 4.0), ("layer#-1", 8.0), ("layer#-3", 2.0), ("layer#1@in", 2.0), (".", 8.0)],
)
def test_a_call_counts_from_the_start_or_from_the_end(address, value, read):
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
def test_selectors_lead_into_inputs_and_nested_outputs(address, value, read):
    assert read(Named(), address, torch.tensor(2.0), torch.tensor(3.0)).item() == value


def test_selectors_lead_into_the_tuple_of_a_recurrent_layer(read):
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
def test_an_error_names_the_wrong_address_and_the_right_answer(address, message, read):
    with pytest.raises(TapError) as caught:
        read(Thrice(), address, torch.ones(1, 1), stop=False)
    assert message in str(caught.value)


def test_an_error_about_a_nested_output_names_its_keys(read):
    with pytest.raises(TapError, match=r"a dict with keys logits, all, not a tensor"):
        read(Named(), ".", torch.tensor(2.0), torch.tensor(3.0))


def test_a_module_that_does_not_run_is_an_error(read):
    model = nn.Sequential(nn.Identity())
    model.unused = nn.Identity()
    model.forward = model[0].__call__
    with pytest.raises(TapError, match="its module did not run"):
        read(model, "unused", torch.ones(1))


def test_hooks_are_removed_after_an_exception():
    model = nn.Sequential(nn.Identity(), nn.Linear(2, 2))
    with pytest.raises(RuntimeError), Taps(model, ["0@in", "1"]) as taps:
        taps.forward(torch.ones(1, 3))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_tensor_that_is_overwritten_in_place_is_refused_unless_it_is_cloned(read):
    model = nn.Sequential(nn.BatchNorm2d(2), nn.ReLU(inplace=True))
    inputs = torch.randn(4, 2, 3, 3)
    with pytest.raises(TapError, match="overwritten in place"):
        read(model, "0", inputs, stop=False)
    assert read(model, "0", inputs, stop=False, clone={"0"}).min() < 0


def test_a_compiled_model_is_read_below_the_wrapper(read):
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    inputs = torch.randn(3, 2)
    torch.testing.assert_close(read(torch.compile(model), "0", inputs), model[0](inputs))


@pytest.mark.parametrize("address", ["0", "1.0", "1", "."])
def test_parts_that_the_user_compiled_in_place_are_tapped(address, read):
    torch._dynamo.reset()
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    inputs = torch.randn(3, 2)
    eager = read(model, address, inputs)
    model[1].compile(backend="eager")
    model.compile(backend="eager")
    model(inputs)
    torch.testing.assert_close(read(model, address, inputs), eager)
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (".@out[:, :, 1:]", r"no \[:, :, 1:\] in \(2, 4\): too many indices"),
        (".@out[:, 9]", r"no \[:, 9\] in \(2, 4\)"),
        (".@out[:, 4:]", r"\[:, 4:\] selects nothing of \(2, 4\)"),
    ],
)
def test_slices_that_a_tensor_does_not_have_are_refused(address, message):
    with pytest.raises(TapError, match=message), Taps(nn.Linear(3, 4), [address]) as taps:
        taps.forward(torch.randn(2, 3))


def test_slices_of_an_input_are_those_of_the_first():
    inputs = torch.randn(2, 3)
    with Taps(nn.Sequential(nn.Linear(3, 4)), ["0@in[:, 1:]", "0@out[0]"]) as taps:
        taps.forward(inputs)
        assert torch.equal(taps["0@in[:, 1:]"], inputs[:, 1:])
        assert taps["0@out[0]"].shape == (4,)


def test_slices_of_a_tuple_are_refused():
    with (
        pytest.raises(TapError, match=r"\[:, 1:\] is a part of a tensor, not of a tuple of 2"),
        Taps(nn.LSTM(3, 4), [".@out[:, 1:]"]) as taps,
    ):
        taps.forward(torch.randn(2, 3))


class Int8(nn.Module):
    """A layer with an output in 8 bits."""

    def forward(self, x):
        return torch.quantize_per_tensor(x, scale=0.5, zero_point=0, dtype=torch.qint8)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_a_tensor_in_8_bits_is_read_as_the_numbers_that_it_stands_for():
    inputs = torch.tensor([[0.6, -1.9]])
    with Taps(nn.Sequential(Int8()), ["0"]) as taps:
        taps.forward(inputs)
        assert taps["0"].tolist() == [[0.5, -2.0]]
    stage = Stage("s", matches=[Match("0")], steps=1)
    plan = ProgressiveDistiller(nn.Sequential(Int8()), nn.Sequential(nn.Linear(2, 2)), [stage]).plan((inputs, None))
    assert plan.stages[0].terms[0].teacher == "1x2"
