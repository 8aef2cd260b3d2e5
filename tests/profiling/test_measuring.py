"""Real runs: memory against its prediction, latencies without a look at the clock, receptive fields by hand."""

import pytest
import torch
from torch import nn

from compresskit import compare, profile
from compresskit.errors import DataError
from compresskit.profiling.counting.model_call import Call
from compresskit.profiling.measuring import latency as latencies
from compresskit.profiling.measuring.latency import latency
from compresskit.profiling.measuring.machine import machine
from compresskit.profiling.measuring.receptive import receptive_field
from zoo.pynet import PyNET, PyNETQxQ


@pytest.mark.parametrize("side", [64, 128])
@pytest.mark.parametrize("build", [PyNET, PyNETQxQ])
def test_predicted_memory_is_what_the_allocator_gives_out(build, side):
    report = profile(
        build(width=8, instance_norm_level_1=False), torch.empty(1, 4, side, side, device="meta"), memory=True
    )
    assert report.memory.method == "allocator events"
    assert report.activations.cpu_peak == pytest.approx(report.memory.peak, rel=0.1)


def test_predicted_memory_of_a_convolution_with_channels_last():
    model, given = (
        nn.Conv2d(16, 32, 3, padding=1),
        torch.rand(2, 16, 64, 64).contiguous(memory_format=torch.channels_last),
    )
    report = profile(model, given, memory=True)
    assert report.activations.cpu_peak == pytest.approx(report.memory.peak, rel=0.02)


def test_measured_memory_of_a_hand_case():
    model = nn.Sequential(nn.Tanh(), nn.Tanh(), nn.Tanh())  # two results of 4,000 bytes are alive at a time
    assert profile(model, torch.rand(1000), memory=True).memory.peak == 2 * 4000


class Counting(nn.Module):
    """Notes its calls in a list that copies share."""

    def __init__(self, name, calls):
        super().__init__()
        self.name, self.calls = name, calls

    def __deepcopy__(self, memo):
        return Counting(self.name, self.calls)

    def forward(self, x):
        self.calls.append(self.name)
        return x / 0 if self.name == "infinite" else x


def test_models_are_timed_in_turn_after_a_warm_up(monkeypatch):
    clock = iter(range(100_000))
    monkeypatch.setattr(latencies, "perf_counter", lambda: 0.001 * next(clock))
    calls = []
    models = {"a": Counting("a", calls), "b": Counting("b", calls)}
    found, faster = latency(models, Call.of(torch.ones(1)), "cpu", needed={"a": 0, "b": 0}, max_seconds=1000)
    timed = calls[-2 * found["a"].calls :]
    assert timed == ["a", "b"] * found["a"].calls
    assert found["a"].calls >= latencies.LEAST_CALLS
    # each call lasts one tick of this clock
    one = found["a"]
    assert (one.first, one.median, one.minimum, one.p90, one.variation) == pytest.approx((1, 1, 1, 1, 0))
    assert (faster["b"].times, faster["b"].low, faster["b"].high) == pytest.approx((1, 1, 1))


def test_few_calls_noise_and_infinite_outputs_are_warned_about(monkeypatch):
    ticks = iter(range(100_000))
    monkeypatch.setattr(latencies, "perf_counter", lambda: float(next(ticks)) ** 2)
    (found, _) = latency({"m": Counting("infinite", [])}, Call.of(torch.ones(1)), "cpu", needed={"m": 0}, max_seconds=9)
    text = "; ".join(found["m"].warnings)
    assert f"only {found['m'].calls} calls" in text
    assert "NaN or infinite" in text
    assert found["m"].p99 is None


def test_percentiles_by_hand():
    assert latencies._percentile([1.0, 2.0, 3.0, 4.0, 5.0], 50) == 3
    assert latencies._percentile([1.0, 2.0, 3.0], 10) == pytest.approx(1.2)
    assert latencies._percentile([7.0], 90) == 7


def test_the_machine_is_told():
    here = machine(torch.device("cpu"))
    assert (here.threads, here.torch) == (torch.get_num_threads(), torch.__version__)
    assert here.processor


def test_a_comparison_with_latencies_prints_their_ratio():
    models = {"large": nn.Linear(64, 64), "small": nn.Linear(64, 8)}
    comparison = compare(models, torch.rand(4, 64), latency=True, max_seconds=0.5)
    assert set(comparison.faster) == {"small"}
    assert all(one.latency.device == "cpu" for one in comparison.profiles.values())
    text = str(comparison)
    assert "latency, median" in text
    assert "in turn" in text


def _field(*layers, channels=1):
    model = nn.Sequential(*layers)
    return receptive_field(model, Call.of(torch.empty(1, channels, 20, 20, device="meta")))


def _conv(kernel, **options):
    return nn.Conv2d(1, 1, kernel, padding=kernel // 2, **options)


@pytest.mark.parametrize(
    ("layers", "field"),
    [
        ([_conv(3), _conv(5)], "7x7"),
        ([_conv(3, dilation=2), nn.ReLU(), nn.MaxPool2d(3, 1, 1)], "7x7"),
        ([nn.Conv2d(1, 1, (3, 5), padding=(1, 2))], "3x5"),
        ([nn.Conv2d(1, 1, 5), nn.Conv2d(1, 1, 3)], "7x7"),  # the output loses its borders
        ([_conv(1)], "1x1"),
        ([nn.Upsample(scale_factor=2), _conv(3)], "2x2"),  # one position reaches four of twice as many
        (
            [_conv(3, stride=2), _conv(3)],
            "8x8",
        ),  # it reaches three outputs or four, by its place: four times the stride
        ([_conv(9) for _ in range(10)], "81x81"),  # larger than the first sizes that are tried
    ],
)
def test_receptive_fields_by_hand(layers, field):
    assert str(_field(*layers)) == field


@pytest.mark.parametrize(
    ("layer", "cause"),
    [
        (nn.InstanceNorm2d(1), "InstanceNorm2d 1"),
        (nn.GroupNorm(1, 1), "GroupNorm 1"),
        (nn.Softmax(-1), "Softmax 1"),
        (nn.Flatten(), "the output is no picture"),
    ],
)
def test_what_mixes_the_whole_picture_is_named(layer, cause):
    field = _field(_conv(3), layer)
    assert field.is_global
    assert str(field) == f"global ({cause})"


def test_batch_norm_with_stored_statistics_mixes_nothing():
    assert str(_field(_conv(3), nn.BatchNorm2d(1), _conv(3))) == "5x5"


def test_a_field_beyond_the_largest_picture_is_not_called_global():
    field = receptive_field(
        nn.Sequential(*(_conv(31) for _ in range(4))), Call.of(torch.empty(1, 1, 32, 32)), max_seconds=0
    )
    assert (field.cause, str(field)) == (None, "beyond 32x32")


def test_a_receptive_field_needs_a_picture():
    with pytest.raises(DataError, match="--receptive-field needs an input with height and width"):
        receptive_field(nn.Linear(2, 2), Call.of(torch.rand(2)))


def test_pynets_student_reaches_116_packed_pixels_and_instance_norm_the_whole_picture():
    x = torch.empty(1, 4, 64, 64, device="meta")
    field = profile(PyNETQxQ(width=1, instance_norm_level_1=False), x, receptive_field=True).receptive_field
    assert (field.rows, field.columns, field.input_rows, field.input_columns) == (232, 232, 116, 116)
    field = profile(PyNETQxQ(width=1), x, receptive_field=True).receptive_field
    assert str(field) == "global (InstanceNorm2d conv_l1_d5.conv_3a.instance)"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda_memory_and_latency_come_from_the_device():
    report = profile(nn.Conv2d(3, 8, 3), torch.rand(1, 3, 64, 64), device="cuda", memory=True, latency=True)
    assert report.memory.method == "allocator statistics"
    assert report.memory.peak >= 8 * 62 * 62 * 4
    assert report.latency.device.startswith("cuda")
