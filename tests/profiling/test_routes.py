"""Ways to see a forward, and the sentence for each way to fail."""

import re

import pytest
import torch
from torch import nn

from compresskit import compare, profile
from compresskit.errors import CompressKitError, DataError, ShapeError
from compresskit.profiling.counting.model_call import Call
from compresskit.profiling.counting.sizes import next_fitting, of_megapixels
from compresskit.profiling.measuring import free_memory

LARGE = torch.empty(1, 3, 3000, 3000, device="meta")


class Deciding(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 3, 1, bias=False)

    def forward(self, x):
        return self.head(x) if x.mean() > 0 else x


class Stubborn(nn.Module):
    def forward(self, x):
        return (x + torch.ones(3, 1, 1, device="cpu")).flatten(1) @ torch.ones(27_000_000, 1, device="cpu")


class Ladder(nn.Module):
    """Halves twice, and comes back: sizes must be multiples of four."""

    def __init__(self):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 3, 3, 2, 1), nn.Conv2d(3, 3, 3, 2, 1))
        self.up = nn.Upsample(scale_factor=4)

    def forward(self, x):
        return torch.cat([self.up(self.down(x)), x], dim=1)


def test_a_model_that_names_a_device_is_seen_without_running_it():
    report = profile(Stubborn(), LARGE)
    assert (report.route, report.macs) == ("fake", 27_000_000)
    assert report.activations.peak > 1e8


def test_a_small_model_that_looks_at_values_runs_for_real():
    assert profile(Deciding(), torch.ones(1, 3, 8, 8)).macs == 64 * 9
    assert profile(Deciding(), torch.zeros(1, 3, 8, 8)).macs == 0  # the inputs' own values count
    assert profile(Deciding(), torch.empty(1, 3, 8, 8, device="meta")).route == "cpu"


def _sentence(words):
    return pytest.raises(CompressKitError, match=re.compile(words, re.DOTALL))


def test_a_large_one_is_not_run_unasked_and_says_where_and_what_to_do():
    with _sentence(r"Deciding needs values at test_routes.py, line \d+, .*item\(\).*4,000,000 pixels.*--device cpu"):
        profile(Deciding(), LARGE)
    with _sentence("needs values"):
        profile(Deciding(), torch.ones(1, 3, 8, 8), device="meta")


def test_a_size_that_does_not_fit_names_the_module_the_sizes_and_the_next_that_does():
    with _sentence(r"^input 18x21 fails at `1`: sizes 20 and 18; try a multiple of 4 \(20x24\)$"):
        profile(nn.Sequential(nn.Identity(), Ladder()), torch.rand(1, 3, 18, 21))
    assert next_fitting(Ladder(), Call.of(torch.rand(1, 3, 18, 21))).multiple == 4


@pytest.mark.parametrize(
    ("model", "inputs", "sentence"),
    [
        (nn.Sequential(nn.Identity(), nn.Conv2d(4, 2, 3)), torch.rand(1, 3, 8, 8), "^`1` takes 4 channels, got 3"),
        (nn.Sequential(nn.Conv1d(4, 2, 3)), torch.rand(1, 3, 8), "^`0` takes 4 channels, got 3"),
        (nn.Linear(4, 2), torch.rand(3, 5), r"^Linear takes 4 features, got 5 \(input 3x5\)"),
        (nn.Linear(4, 2), (), r"^Linear: no inputs were given; it is forward\(input\)"),
        (nn.Linear(4, 2), {"inptu": torch.rand(4)}, r"^Linear: .*'input'.*; it is forward\(input\)"),
        (
            nn.Sequential(nn.LazyLinear(3)),
            torch.rand(1, 3),
            "^Sequential: 0 is lazy and has no weights yet; .*--materialize",
        ),
        (nn.Sequential(nn.Embedding(4, 2)), torch.rand(3), r"fails at `0` \(.*line.*\): .*(indices|Long|int)"),
    ],
)
def test_each_mistake_with_inputs_has_its_sentence(model, inputs, sentence):
    with _sentence(sentence) as caught:
        profile(model, inputs)
    assert len(str(caught.value).splitlines()) <= 3


def test_lazy_modules_can_be_given_their_weights():
    model = nn.Sequential(nn.LazyLinear(3), nn.ReLU())
    report = profile(model, torch.rand(2, 5), materialize=True)
    assert (report.params, report.macs) == (18, 2 * 15)
    assert isinstance(model[0], nn.LazyLinear)
    with _sentence("^--materialize: the forward fails: "):
        profile(nn.Sequential(nn.LazyLinear(3), nn.Linear(4, 4)), torch.rand(2, 5), materialize=True)


def test_the_users_own_bugs_keep_their_own_exception():
    class Broken(nn.Module):
        def forward(self, x):
            return x.nonsense

    with pytest.raises(AttributeError, match="nonsense"):
        profile(Broken(), torch.rand(1))


def test_batch_norms_run_as_in_inference_even_where_training_would_fail():
    model = nn.Sequential(nn.BatchNorm1d(3))
    assert model.training
    assert profile(model, torch.rand(1, 3)).elementwise == 6


def test_a_model_with_weights_and_no_mac_is_warned_about():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, x):
            return x * self.weight

    assert profile(Odd(), torch.rand(3)).warnings == ("no MAC was counted, and the model has weights",)


def test_a_run_that_does_not_fit_into_memory_is_refused_before_it_starts(monkeypatch):
    monkeypatch.setattr(free_memory, "_free", lambda _: 10_000)
    with _sentence(r"^--memory needs a real run, and that about [\d.]+ KiB; 9.77 KiB are free on cpu"):
        profile(nn.Conv2d(3, 64, 3), torch.rand(1, 3, 32, 32), memory=True)
    with _sentence("^--latency"):
        profile(nn.Conv2d(3, 64, 3), torch.rand(1, 3, 32, 32), latency=True)


def test_real_runs_need_a_device_and_values():
    with _sentence("need real runs, and --device meta allows none"):
        profile(nn.Linear(2, 2), torch.rand(2), latency=True, device="meta")
    with _sentence(r"the model's weights have no values"):
        profile(nn.Linear(2, 2, device="meta"), torch.rand(2), memory=True)
    with _sentence("--device nonsense"):
        profile(nn.Linear(2, 2), torch.rand(2), device="nonsense")


def test_what_cannot_be_copied_is_refused():
    model = nn.Linear(2, 2)
    model.generator = (number for number in range(3))
    with pytest.raises(DataError, match="Linear cannot be copied, and profiling works on a copy"):
        profile(model, torch.rand(2))


def test_megapixels_are_those_of_the_larger_picture_rounded_up_to_what_fits():
    doubling = nn.Sequential(Ladder(), nn.Upsample(scale_factor=2))
    call = of_megapixels([doubling], Call.of(torch.rand(1, 3, 16, 16)), 12)
    assert call.frame() == (1500, 2000)  # 3000 x 4000 come out
    call = of_megapixels([Ladder(), nn.Conv2d(3, 3, 1)], Call.of(torch.rand(1, 3, 16, 16)), 1)
    assert call.frame() == (868, 1156)  # 866 x 1155, and multiples of four
    with pytest.raises(DataError, match="--megapixels needs an input with height and width"):
        of_megapixels([nn.Linear(2, 2)], Call.of(torch.rand(2)), 1)


def test_a_comparison_says_whose_mistake_it_is():
    with pytest.raises(ShapeError, match=r"^wide: Linear takes 3 features, got 2"):
        compare({"narrow": nn.Linear(2, 2), "wide": nn.Linear(3, 2)}, torch.rand(2))
    with pytest.raises(DataError, match="no models"):
        compare({}, torch.rand(2))
