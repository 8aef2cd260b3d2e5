"""What is read off a record: layers, memory, dead code, element-wise FLOPs, parameters."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from compresskit import profile
from compresskit.profiling.counting.activations import activations
from compresskit.profiling.counting.operations import record_forward
from compresskit.profiling.counting.parameters import walk

FLOAT = 4


class Forked(nn.Module):
    """One branch is returned, another is thrown away."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(10, 20, bias=False)
        self.kept = nn.Linear(20, 5, bias=False)
        self.lost = nn.Sequential(nn.Linear(20, 30, bias=False), nn.ReLU(), nn.Linear(30, 1, bias=False))

    def forward(self, x):
        x = self.stem(x)
        self.lost(x)
        return {"answer": self.kept(x)}


def test_a_module_that_reaches_no_output_is_named_once_with_its_macs():
    report = profile(Forked(), torch.rand(2, 10))
    assert [(part.module, part.macs) for part in report.dead] == [("lost", 2 * (20 * 30 + 30))]
    assert report.dead_macs == 2 * (20 * 30 + 30)
    assert "lost: computed, and no output depends on it" in str(report)


class Remembering(nn.Module):
    """What is written into a buffer or looked at by Python is not in vain."""

    def __init__(self):
        super().__init__()
        self.register_buffer("memory", torch.zeros(4))
        self.inner, self.judge, self.outer = (nn.Linear(4, 4) for _ in range(3))

    def forward(self, x):
        self.memory.copy_(self.inner(x)[0])
        if self.judge(x).sum() > 0:
            return self.outer(x)
        return self.outer(x)


def test_effects_are_not_dead_code():
    report = profile(Remembering(), torch.rand(2, 4))
    assert (report.route, report.dead) == ("cpu", ())


def test_work_hidden_behind_numpy_is_not_called_dead():
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return torch.from_numpy(self.layer(x).numpy()) * 2

    assert profile(Hidden(), torch.rand(2, 4)).dead == ()


def test_layers_add_up_and_know_their_calls_and_shapes():
    shared = nn.Linear(6, 6)
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 6), shared), shared, nn.Identity())
    report = profile(model, torch.rand(3, 4))
    rows = {layer.path: layer for layer in report.layers}
    assert list(rows) == ["", "0", "0.0", "0.1", "2"]  # the shared layer once, under its first path
    assert rows["0.1"].calls == 2
    assert rows["0.1"].macs == 2 * 3 * 36
    assert (rows["0.0"].output_shape, rows["0.0"].output_bytes) == ((3, 6), 3 * 6 * FLOAT)
    assert (rows[""].parameters, rows["0"].parameters) == (30 + 42, 30 + 42)
    assert sum(layer.own_macs for layer in report.layers) == report.macs == rows[""].macs
    assert [layer.depth for layer in report.layers] == [0, 1, 2, 2, 1]


class Keeping(nn.Module):
    """Holds on to two results, then makes a third."""

    def forward(self, x):
        one = x * 2
        two = one * 2
        three = two * 2
        del two
        return three * one


def test_memory_follows_the_names_that_keep_tensors_alive():
    found = activations(record_forward(Keeping(), (torch.rand(100, 1),), {}))
    assert found.peak == 3 * 100 * FLOAT  # one, two, three; later one, three, product
    assert found.last_use_peak == 3 * 100 * FLOAT
    chain = nn.Sequential(*(nn.Tanh() for _ in range(5)))
    found = activations(record_forward(chain, (torch.rand(100),), {}))
    assert (found.peak, found.peak_at) == (2 * 100 * FLOAT, "1")  # each result and the one before
    assert found.largest_operation == 2 * 100 * FLOAT


def test_views_cost_no_memory_and_what_happens_in_place_makes_none():
    model = nn.Sequential(nn.Flatten(), nn.ReLU(inplace=True), nn.Unflatten(1, (2, 5)))
    record = record_forward(model, (torch.rand(3, 10),), {})
    assert activations(record).peak == 0
    assert sum(operation.bytes for operation in record.operations) == 2 * 30 * FLOAT  # the ReLU reads and writes


def test_freeing_at_the_last_use_needs_less_than_python_does():
    class Hoarding(nn.Module):
        def forward(self, x):
            kept = [x]
            for _ in range(5):
                kept.append(kept[-1] + 1)
            return kept[-1]

    found = activations(record_forward(Hoarding(), (torch.rand(100),), {}))
    assert (found.peak, found.last_use_peak) == (5 * 100 * FLOAT, 2 * 100 * FLOAT)


@pytest.mark.parametrize(
    ("model", "shape", "flops"),
    [
        (nn.ReLU(), (2, 3), 6),
        (nn.Sequential(nn.Flatten(), nn.Identity()), (2, 3), 0),
        (nn.Softmax(1), (2, 3), 5 * 6),
        (nn.BatchNorm2d(3), (1, 3, 4, 4), 2 * 48),
        (nn.InstanceNorm2d(3), (1, 3, 4, 4), 6 * 48),
        (nn.LayerNorm(4), (1, 3, 4, 4), 6 * 48),
        (nn.AvgPool2d(2), (1, 3, 4, 4), 3 * 2 * 2 * 4),
        (nn.MaxPool2d((2, 4)), (1, 3, 4, 4), 3 * 2 * 1 * 8),
        (nn.Upsample(scale_factor=2, mode="bilinear"), (1, 1, 4, 4), 7 * 64),
        (nn.Upsample(scale_factor=2, mode="bicubic"), (1, 1, 4, 4), 31 * 64),
    ],
)
def test_element_wise_flops_by_the_table(model, shape, flops):
    report = profile(model, torch.rand(shape))
    assert (report.elementwise, report.flops, report.uncounted) == (flops, flops, {})


def test_flops_are_two_per_mac_and_the_element_wise_ones():
    report = profile(nn.Sequential(nn.Linear(4, 5), nn.ReLU()), torch.rand(2, 4))
    assert (report.macs, report.elementwise, report.flops) == (40, 10, 90)
    weights_in_out = 4 * 5 + 5 + 2 * 4 + 2 * 5  # weight, bias, input, output
    assert report.bytes == FLOAT * (weights_in_out + 2 * 10)
    assert report.intensity == pytest.approx(90 / report.bytes)


def test_parameters_are_counted_once_whatever_leads_to_them():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False), nn.BatchNorm1d(3), nn.Linear(3, 2))
    model[1].weight = model[0].weight
    model[3].requires_grad_(requires_grad=False)
    model[2].half()
    found = walk(model)
    assert (found.total, found.trainable, found.frozen) == (9 + 6 + 8, 9 + 6, 8)
    assert found.tied == (("0.weight", "1.weight"),)
    assert found.dtypes == {"float32": 17 * 4, "float16": 6 * 2}
    assert found.bytes == 17 * 4 + 6 * 2
    assert (found.buffers, found.buffer_bytes) == (3 + 3 + 1, 3 * 2 + 3 * 2 + 8)  # mean, variance, batches seen
    assert found.zeros == 3  # the norm's bias


def test_masked_and_meta_parameters():
    layer = nn.Linear(10, 10, bias=False)
    prune.random_unstructured(layer, "weight", 0.3)
    assert walk(layer).zeros == 30
    assert walk(nn.Linear(2, 2, device="meta")).zeros is None


def test_two_names_of_the_same_storage_are_tied():
    model = nn.Module()
    model.one = nn.Parameter(torch.ones(4))
    model.two = nn.Parameter(model.one.data)
    model.part = nn.Parameter(model.one.data[:2])  # a part of it is a tensor of its own
    assert walk(model).total == 4 + 2
    assert walk(model).tied == (("one", "two"),)
