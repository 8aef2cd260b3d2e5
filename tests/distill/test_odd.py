"""Odd models: what they do to themselves or to their inputs must neither go wrong in silence nor fail in riddles."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from compresskit import DataError, Match, ProgressiveDistiller, RecipeError, Stage, TapError

X = torch.randn(4, 3)


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first, self.head = nn.Linear(3, width), nn.Linear(width, 2)

    def forward(self, x):
        return self.head(self.first(x))


def losses(teacher, student, *matches, inputs=X, **options):
    stage = Stage("s", matches=matches, steps=3, optimizer={"_target_": "torch.optim.SGD", "lr": 0.1})
    history = ProgressiveDistiller(teacher, student, [stage], **options).fit([inputs]).history
    return [sum(term["value"] for term in record["terms"].values()) for record in history]


def test_inputs_made_in_inference_mode_are_trained_on():
    with torch.inference_mode():
        inputs = X * 2
    found = losses(Net(4), Net(3), Match("."), inputs=inputs)
    assert found[2] < found[0]


def test_a_teacher_that_shares_a_norm_with_its_student_is_refused():
    norm = nn.BatchNorm1d(2, affine=False)
    with pytest.raises(RecipeError, match="shares parameters or buffers with the student"):
        losses(nn.Sequential(nn.Linear(3, 2), norm), nn.Sequential(nn.Linear(3, 2), norm), Match("."))


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_fit_trains_also_where_gradients_are_off(context):
    teacher, student = Net(4), Net(3)
    with context():
        found = losses(teacher, student, Match("."))
    assert found[2] < found[0]


def test_a_student_that_cannot_be_copied_is_named_where_a_copy_is_wanted():
    student = Net(3)
    student.kept = student(X)  # a tensor with a graph
    stages = [
        Stage("s", matches=[Match(".")], steps=1, ema=0.9),
        Stage("s", matches=[Match(".", "previous:.")], steps=1),
    ]
    for stage, purpose in zip(stages, ("ema", "previous"), strict=True):
        with pytest.raises(RecipeError, match=f"{purpose} needs a copy of Net, which cannot be copied"):
            ProgressiveDistiller(Net(4), student, [stage]).fit([X])


class Masked(nn.Module):
    """In eval mode and with a mask its layers hand on nested tensors."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, x, mask):
        return self.encoder(x, src_key_padding_mask=mask)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_a_nested_tensor_is_named():
    inputs = torch.randn(2, 3, 4), torch.tensor([[False, False, True], [False, False, False]])
    losses(Masked(), Masked(), Match("encoder"), inputs=(inputs, None))
    with pytest.raises(TapError, match=r"'encoder.layers.0' is a nested tensor"):
        losses(Masked(), Masked(), Match("encoder.layers.0"), inputs=(inputs, None))


class Sequenced(nn.Module):
    """Holds its parts in a list, and returns None for one of them."""

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
def test_a_tap_that_finds_nothing_says_what_there_is(tap, message):
    with pytest.raises(TapError) as caught:
        losses(Sequenced(), Sequenced(), Match(tap))
    assert message in str(caught.value)


@pytest.mark.parametrize("inputs", [{"image": X}, {"x": X, "y": X}, (X, X, X)])
def test_inputs_that_a_model_does_not_take_are_refused_with_how_inputs_are_passed(inputs):
    with pytest.raises(DataError) as caught:
        ProgressiveDistiller(Net(4), Net(4), [Stage("s", matches=[Match(".")], steps=1)]).plan((inputs, None))
    assert "Net.forward does not take these inputs" in str(caught.value)
    assert "a mapping is passed as model(**inputs)" in str(caught.value)


def test_a_plan_of_a_loader_says_that_it_wants_a_batch():
    distiller = ProgressiveDistiller(Net(4), Net(4), [Stage("s", matches=[Match(".")], steps=1)])
    with pytest.raises(DataError, match=r"one batch is wanted, got a DataLoader; if it gives batches: next\(iter"):
        distiller.plan(DataLoader([X]))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated")
def test_torchscript_cannot_be_tapped_but_what_calls_it_can():
    traced = torch.jit.trace(Net(4).eval(), X)
    with pytest.raises(TapError, match=r"'\.' is a TorchScript module, which takes no hooks"):
        losses(traced, Net(4), Match("."))
    losses(nn.Sequential(traced), Net(4), Match("."))
