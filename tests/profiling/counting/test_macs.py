"""MACs of every kind of model, each computed by hand: exact, or listed as uncounted."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

from compresskit import profile
from compresskit.profiling.counting.formulas import macs


class Function(nn.Module):
    """Module whose forward is a function."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs, **named):
        return self.function(self, *inputs, **named)


def _picture(channels, side=8, batch=1):
    return torch.rand(batch, channels, side, side)


def _pruned():
    layer = nn.Conv2d(3, 4, 3)
    prune.l1_unstructured(layer, "weight", 0.5)
    return layer


class Subclass(nn.Conv2d):
    def forward(self, input):
        return super().forward(input) * 2


SHARED = nn.Conv2d(4, 4, 3, padding=1)
ATTENTION = 2 * (
    3 * 5 * 8 * 8 + 2 * 5 * 5 * 8 + 5 * 8 * 8
)  # batch 2, 5 tokens of width 8: q, k, v; scores, values; out
FEED_FORWARD = 2 * 5 * (8 * 16 + 16 * 8)
LSTM = 2 * 4 * (4 * 5 * 3 + 4 * 5 * 5)  # batch 2, 4 steps, four gates of 5 from 3 inputs and 5 states
TOKENS = (torch.rand(2, 5, 8),)

# name, model, positional inputs, MACs
CONVOLUTIONS = [
    ("conv2d", nn.Conv2d(3, 5, 3), [_picture(3)], 5 * 6 * 6 * 3 * 9),
    ("no bias, same size", nn.Conv2d(3, 5, 3, padding=1, bias=False), [_picture(3)], 5 * 8 * 8 * 3 * 9),
    ("stride and dilation", nn.Conv2d(3, 5, 3, stride=2, dilation=2), [_picture(3)], 5 * 2 * 2 * 3 * 9),
    ("reflected border", nn.Conv2d(3, 5, 3, padding=1, padding_mode="reflect"), [_picture(3)], 5 * 8 * 8 * 3 * 9),
    ("depthwise", nn.Conv2d(4, 4, 3, groups=4), [_picture(4)], 4 * 6 * 6 * 9),
    ("groups", nn.Conv2d(8, 4, 3, groups=2), [_picture(8)], 4 * 6 * 6 * 4 * 9),
    ("1x1", nn.Conv2d(3, 5, 1), [_picture(3)], 5 * 8 * 8 * 3),
    ("conv1d", nn.Conv1d(3, 5, 3), [torch.rand(2, 3, 9)], 2 * 5 * 7 * 3 * 3),
    ("conv3d", nn.Conv3d(2, 3, 2), [torch.rand(1, 2, 4, 4, 4)], 3 * 3**3 * 2 * 2**3),
    ("without a batch", nn.Conv2d(3, 5, 3), [torch.rand(3, 8, 8)], 5 * 6 * 6 * 3 * 9),
    ("transposed", nn.ConvTranspose2d(3, 5, 2, stride=2), [_picture(3)], 8 * 8 * 3 * 5 * 4),
    ("transposed, groups", nn.ConvTranspose2d(4, 6, 3, groups=2), [_picture(4)], 8 * 8 * 4 * 3 * 9),
    ("transposed 1d", nn.ConvTranspose1d(3, 5, 3), [torch.rand(1, 3, 7)], 7 * 3 * 5 * 3),
    ("subclass", Subclass(3, 5, 3), [_picture(3)], 5 * 6 * 6 * 3 * 9),
    ("in a batch of three", nn.Conv2d(3, 5, 3), [_picture(3, batch=3)], 3 * 5 * 6 * 6 * 3 * 9),
    ("an empty batch", nn.Conv2d(3, 5, 3), [_picture(3, batch=0)], 0),
    ("pruned", _pruned(), [_picture(3)], 4 * 6 * 6 * 3 * 9),
    ("weight norm", parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), [_picture(3)], 4 * 6 * 6 * 3 * 9),
    ("orthogonal", parametrizations.orthogonal(nn.Linear(4, 4, bias=False)), [torch.rand(2, 4)], None),
    ("one module, twice", Function(lambda m, x: m.layer(m.layer(x)), layer=SHARED), [_picture(4)], 2 * 4 * 64 * 36),
    ("one module, two names", nn.Sequential(SHARED, nn.ReLU(), SHARED), [_picture(4)], 2 * 4 * 64 * 36),
    ("called by its forward", Function(lambda m, x: m.layer.forward(x), layer=SHARED), [_picture(4)], 4 * 64 * 36),
]

MATRICES = [
    ("linear", nn.Linear(4, 7), [torch.rand(3, 4)], 3 * 4 * 7),
    ("linear on tokens", nn.Linear(4, 7), [torch.rand(2, 3, 4)], 2 * 3 * 4 * 7),
    ("linear on one vector", nn.Linear(4, 7), [torch.rand(4)], 4 * 7),
    ("matmul", Function(lambda _, a, b: a @ b), [torch.rand(2, 3), torch.rand(3, 5)], 2 * 3 * 5),
    ("matmul with a batch", Function(lambda _, a, b: a @ b), [torch.rand(4, 2, 3), torch.rand(3, 5)], 4 * 2 * 3 * 5),
    ("bmm", Function(lambda _, a, b: torch.bmm(a, b)), [torch.rand(4, 2, 3), torch.rand(4, 3, 5)], 4 * 2 * 3 * 5),
    (
        "einsum",
        Function(lambda _, a, b: torch.einsum("bij,bjk->bik", a, b)),
        [torch.rand(4, 2, 3), torch.rand(4, 3, 5)],
        4 * 2 * 3 * 5,
    ),
    ("matrix and vector", Function(lambda _, a, b: a @ b), [torch.rand(2, 3), torch.rand(3)], 2 * 3),
    ("two vectors", Function(lambda _, a, b: a @ b), [torch.rand(6), torch.rand(6)], 6),
    ("addmv", Function(lambda _, a, b, c: torch.addmv(a, b, c)), [torch.rand(2), torch.rand(2, 3), torch.rand(3)], 6),
    (
        "addbmm",
        Function(lambda _, a, b, c: torch.addbmm(a, b, c)),
        [torch.rand(2, 5), torch.rand(4, 2, 3), torch.rand(4, 3, 5)],
        4 * 2 * 3 * 5,
    ),
    (
        "a convolution of its own parameter",
        Function(lambda m, x: F.conv2d(x, m.kernel), kernel=nn.Parameter(torch.rand(5, 3, 3, 3))),
        [_picture(3)],
        5 * 6 * 6 * 3 * 9,
    ),
    (
        "tied weights",
        Function(lambda m, x: F.linear(F.linear(x, m.weight), m.weight.t()), weight=nn.Parameter(torch.rand(7, 4))),
        [torch.rand(3, 4)],
        2 * 3 * 4 * 7,
    ),
    (
        "checkpointed",
        Function(lambda m, x: checkpoint(m.layer, x, use_reentrant=False), layer=nn.Linear(4, 7)),
        [torch.rand(3, 4)],
        3 * 4 * 7,
    ),
    ("element by element", Function(lambda _, a, b: (a * b).sum()), [torch.rand(6), torch.rand(6)], 0),
]

ATTENTIONS = [
    ("attention, weights wanted", nn.MultiheadAttention(8, 2, batch_first=True), 3 * TOKENS, ATTENTION),
    (
        "attention, no weights",
        Function(lambda m, x: m.mha(x, x, x, need_weights=False), mha=nn.MultiheadAttention(8, 2, batch_first=True)),
        TOKENS,
        ATTENTION,
    ),
    (
        "encoder layer",
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        TOKENS,
        ATTENTION + FEED_FORWARD,
    ),
    (
        "fused attention",
        Function(lambda _, q, k, v: F.scaled_dot_product_attention(q, k, v)),
        [torch.rand(2, 4, 5, 8), torch.rand(2, 4, 7, 8), torch.rand(2, 4, 7, 6)],
        2 * 4 * 5 * 7 * (8 + 6),
    ),
    (
        "causal attention, not discounted",
        Function(lambda _, x: F.scaled_dot_product_attention(x, x, x, is_causal=True)),
        [torch.rand(2, 4, 5, 8)],
        2 * 4 * 5 * 5 * (8 + 8),
    ),
]

RECURRENT = [
    ("LSTM", nn.LSTM(3, 5, batch_first=True), [torch.rand(2, 4, 3)], LSTM),
    ("LSTM both ways", nn.LSTM(3, 5, batch_first=True, bidirectional=True), [torch.rand(2, 4, 3)], 2 * LSTM),
    ("two layers", nn.LSTM(3, 5, 2, batch_first=True), [torch.rand(2, 4, 3)], LSTM + 2 * 4 * (4 * 5 * 5 + 4 * 5 * 5)),
    ("GRU", nn.GRU(3, 5), [torch.rand(4, 2, 3)], 4 * 2 * (3 * 5 * 3 + 3 * 5 * 5)),
    ("RNN", nn.RNN(3, 5), [torch.rand(4, 2, 3)], 4 * 2 * (5 * 3 + 5 * 5)),
    ("LSTM cell", nn.LSTMCell(3, 5), [torch.rand(2, 3)], 2 * (4 * 5 * 3 + 4 * 5 * 5)),
]

WITHOUT_MACS = [
    (
        "norms",
        nn.Sequential(nn.BatchNorm2d(3), nn.InstanceNorm2d(3), nn.GroupNorm(3, 3), nn.LayerNorm(8)),
        [_picture(3)],
    ),
    ("activations", nn.Sequential(nn.PReLU(), nn.GELU(), nn.Softmax(1), nn.Hardswish(), nn.GLU(3)), [_picture(3)]),
    (
        "in place",
        nn.Sequential(nn.ReLU6(inplace=True), nn.Mish(inplace=True), nn.Threshold(0, 0, inplace=True)),
        [_picture(3)],
    ),
    ("pools", nn.Sequential(nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1)), [_picture(3)]),
    ("sizes", nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.PixelUnshuffle(2)), [_picture(3)]),
    ("borders", nn.Sequential(nn.ReflectionPad2d(1), nn.ZeroPad2d(1), nn.Flatten()), [_picture(3)]),
]


def _named(cases):
    return [pytest.param(*case[1:], id=case[0]) for case in cases]


@pytest.mark.parametrize(("model", "inputs", "macs"), _named([*CONVOLUTIONS, *MATRICES, *ATTENTIONS, *RECURRENT]))
def test_macs_are_exact_or_the_operation_is_listed(model, inputs, macs):
    report = profile(model, inputs)
    assert report.route == "meta"
    if macs is None:
        assert report.uncounted
    else:
        assert (report.macs, report.uncounted) == (macs, {})


@pytest.mark.parametrize(("model", "inputs", "macs"), _named([*ATTENTIONS, *RECURRENT, *CONVOLUTIONS[:13], *MATRICES]))
def test_a_real_run_counts_the_same(model, inputs, macs):
    """Attention and recurrent layers are single fused operations on the CPU."""
    reads_values = Function(lambda m, *xs: (float(xs[0].sum()), m.model(*xs))[1], model=model)
    report = profile(reads_values, inputs)
    assert report.route == "cpu"
    assert (report.macs, report.uncounted) == (macs, {})


@pytest.mark.parametrize(("model", "inputs"), _named(WITHOUT_MACS))
def test_operations_that_are_not_products_have_no_macs_and_are_known(model, inputs):
    report = profile(model, inputs)
    assert (report.macs, report.uncounted) == (0, {})


def _branching(model, picture):
    return model.layer(picture) if picture.sum() > 1e9 else model.layer(model.layer(picture))


def _dictionary(model, batch):
    return {"out": model.layer(batch["left"]) + batch["more"][0]}


LAYER = nn.Linear(4, 4, bias=False)
STRUCTURES = [
    (
        "a mapping",
        Function(_dictionary, layer=LAYER),
        ({"left": torch.rand(2, 4), "more": [torch.rand(4)]},),
        {},
        2 * 16,
    ),
    (
        "a list",
        Function(lambda m, xs: [m.layer(x) for x in xs], layer=LAYER),
        ([torch.rand(2, 4)] * 3,),
        {},
        3 * 2 * 16,
    ),
    ("names", Function(lambda m, *, a, b: m.layer(a) + b, layer=LAYER), (), {"a": torch.rand(2, 4), "b": 1.0}, 2 * 16),
    ("the data decides", Function(_branching, layer=LAYER), (torch.rand(2, 4),), {}, 2 * 2 * 16),
    (
        "a loop",
        Function(lambda m, x, n: [x := m.layer(x) for _ in range(n)], layer=LAYER),
        (torch.rand(2, 4), 5),
        {},
        160,
    ),
    (
        "numpy inside",
        Function(lambda m, x: torch.from_numpy(m.layer(x).numpy()), layer=LAYER),
        (torch.rand(2, 4),),
        {},
        32,
    ),
    (
        "a device of its own",
        Function(lambda m, x: m.layer(x + torch.ones(4, device="cpu")), layer=LAYER),
        (torch.rand(2, 4),),
        {},
        32,
    ),
    ("nothing returned", Function(lambda m, x: m.layer(x).shape[0], layer=LAYER), (torch.rand(2, 4),), {}, 32),
]


@pytest.mark.parametrize(("model", "inputs", "kwargs", "macs"), _named(STRUCTURES))
def test_inputs_outputs_and_control_flow_may_be_of_any_kind(model, inputs, kwargs, macs):
    assert profile(model, inputs, kwargs).macs == macs


UNKNOWN = [
    ("a transform", Function(lambda _, x: torch.fft.rfft2(x)), [_picture(1)], "_fft_r2c"),
    ("an inverse", Function(lambda _, x: torch.linalg.inv(x)), [_picture(1)], "linalg_inv_ex"),
    ("distances", Function(lambda _, x: torch.cdist(x, x)), [torch.rand(30, 3)], "_euclidean_dist"),
    ("a bilinear layer", nn.Bilinear(3, 4, 5), [torch.rand(2, 3), torch.rand(2, 4)], "_trilinear"),
    ("sorting", Function(lambda _, x: x.sort().values), [torch.rand(8)], "sort"),
]


@pytest.mark.parametrize(("model", "inputs", "operation"), _named(UNKNOWN))
def test_operations_in_no_table_are_listed(model, inputs, operation):
    assert profile(model, inputs).uncounted == {operation: 1}


@torch.library.custom_op("compresskit_tests::mix", mutates_args=())
def _mix(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return left @ right


@_mix.register_fake
def _(left, right):
    return left.new_empty(left.shape[0], right.shape[1])


def test_a_foreign_operation_is_listed_by_its_full_name():
    report = profile(Function(lambda _, x: _mix(x, x)), (torch.rand(3, 3),))
    assert report.uncounted == {"compresskit_tests.mix": 1}
    assert report.macs == 0


def test_scripts_count_and_quantised_layers_are_listed():
    with warnings.catch_warnings():  # torch means to drop both
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(nn.Sequential(nn.Conv2d(3, 4, 3)), _picture(3))
        quantised = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 5)), {nn.Linear})
        assert profile(traced, _picture(3)).macs == 4 * 6 * 6 * 3 * 9
        assert profile(quantised, torch.rand(2, 4)).uncounted == {"quantized.linear_dynamic": 1}


def test_a_compiled_model_is_counted_as_it_was_written():
    assert profile(torch.compile(nn.Linear(4, 5)), torch.rand(2, 4)).macs == 2 * 4 * 5


def test_formulas_of_operations_that_only_other_devices_run():
    """Count CUDA's recurrent layers, and products of integers, by their shapes."""
    sequence, weights = torch.empty(4, 2, 3), [torch.empty(20, 3), torch.empty(20, 5), torch.empty(20), torch.empty(20)]
    lstm = macs(torch.ops.aten._cudnn_rnn.default, (sequence, weights, 4, None), {}, None)
    assert lstm == LSTM
    assert macs(torch.ops.aten._int_mm.default, (torch.empty(2, 3), torch.empty(3, 5)), {}, None) == 2 * 3 * 5
    query, key = torch.empty(2, 8, 5, 16), torch.empty(2, 2, 7, 16)  # four heads of queries share one of keys
    attention = torch.ops.aten._scaled_dot_product_fused_attention_overrideable.default
    assert macs(attention, (query, key, key), {}, None) == 2 * 8 * 5 * 7 * 2 * 16
    assert macs(torch.ops.aten.relu.default, (query,), {}, None) is None
