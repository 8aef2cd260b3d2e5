import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from compresskit import DataError, Match, ProgressiveDistiller, Stage, TapError

X = torch.randn(4, 3)


def fit(teacher, student, *matches, inputs=X):
    ProgressiveDistiller(teacher, student, [Stage("s", matches=matches, steps=3)]).fit([inputs])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        return self.layer(x)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_gradient_checkpointing_may_run_a_tapped_module_again():
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.Linear(3, 3)

        def forward(self, x):
            return checkpoint(self.block, x, use_reentrant=False)

    stage = Stage("s", matches=[Match("block"), Match(".")], steps=1)
    ProgressiveDistiller(Checkpointed(), Checkpointed(), [stage]).fit([X])


def test_a_keyword_in_the_kwargs_of_forward_can_be_tapped():
    class Block(nn.Module):
        def forward(self, x, **more):
            return x + more["mask"]

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.block = nn.Linear(3, 3), Block()

        def forward(self, x):
            return self.block(x, mask=self.linear(x))

    ProgressiveDistiller(Model(), Model(), [Stage("s", matches=[Match("block@in.mask")], steps=1)]).fit([X])


class Masked(nn.Module):
    """A transformer whose layers, in eval mode and with a mask, return nested tensors."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, x, mask):
        return self.encoder(x, src_key_padding_mask=mask)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_a_tap_at_a_nested_tensor_is_refused():
    inputs = torch.randn(2, 3, 4), torch.tensor([[False, False, True], [False, False, False]])
    fit(Masked(), Masked(), Match("encoder"), inputs=(inputs, None))
    with pytest.raises(TapError, match=r"'encoder.layers.0' is a nested tensor"):
        fit(Masked(), Masked(), Match("encoder.layers.0"), inputs=(inputs, None))


class Sequenced(nn.Module):
    """A model with a list of modules, and None in its output."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 2)])

    def forward(self, x, mask=None):
        return self.parts[1](self.parts[0](x)), mask


@pytest.mark.parametrize(
    ("tap", "message"),
    [
        ("parts", "its module did not run in this forward; tap a part of it, such as parts.1"),
        (".@out[1]", "'.@out[1]' is None in this forward"),
    ],
)
def test_an_error_about_an_empty_tap_names_a_better_one(tap, message):
    with pytest.raises(TapError) as caught:
        fit(Sequenced(), Sequenced(), Match(tap))
    assert message in str(caught.value)


@pytest.mark.parametrize("inputs", [{"image": X}, {"x": X, "y": X}, (X, X, X)])
def test_an_error_about_inputs_explains_how_they_are_passed(inputs):
    with pytest.raises(DataError) as caught:
        ProgressiveDistiller(Net(), Net(), [Stage("s", matches=[Match(".")], steps=1)]).plan((inputs, None))
    assert "Net.forward does not take these inputs" in str(caught.value)
    assert "a mapping is passed as model(**inputs)" in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated")
def test_a_module_that_calls_torchscript_can_be_tapped():
    traced = torch.jit.trace(Net().eval(), X)
    with pytest.raises(TapError, match=r"'\.' is a TorchScript module, which takes no hooks"):
        fit(traced, Net(), Match("."))
    fit(nn.Sequential(traced), Net(), Match("."))
