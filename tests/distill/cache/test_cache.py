"""The teacher cache: the same numbers, and no teacher from the second pass on."""

import itertools
import random

import pytest
import torch
from torch import nn

from compresskit import Match, ProgressiveDistiller, RecipeError, Stage, Task
from compresskit.data import SampleLoader, rng

SGD = {"_target_": "torch.optim.SGD", "lr": 0.05}


class Shifted:
    """Random images, shifted and flipped in another way in each of two variants."""

    variants: int | None = 2

    def __init__(self, count=12):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        image = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(int(index)))
        draw = rng(index.seed, index, index.epoch % (self.variants or 10**9))
        image = image.roll(int(draw.integers(8)), dims=1)
        return image.flip(2) if draw.integers(2) else image, torch.tensor(int(index) % 5)


class Counted(nn.Sequential):
    """A model that counts its runs."""

    runs = 0

    def forward(self, x):
        self.runs += 1
        return super().forward(x)


def net(width, seed, kind=nn.Sequential):
    torch.manual_seed(seed)
    return kind(
        nn.Conv2d(3, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Dropout(0.2),
        nn.Conv2d(width, width, 3, padding=1, stride=2),
        nn.Flatten(),
        nn.Linear(16 * width, 5),
    )


def stages(*steps):
    matches = [Match("1"), Match("4"), Match(".", loss="kl")]
    return [
        Stage(f"s{number}", matches=matches[number:], tasks=[Task("cross_entropy")], steps=count, optimizer=SGD)
        for number, count in enumerate(steps)
    ]


def losses(result):
    return [{name: term["value"] for name, term in record["terms"].items()} for record in result.history]


def run(cache=None, *, steps=(14,), teacher=None, batch_size=4, workers=0, data=None, **options):
    teacher = teacher or net(6, 1, Counted)
    loader = SampleLoader(data or Shifted(), batch_size, seed=3, workers=workers)
    distiller = ProgressiveDistiller(teacher, net(4, 2), stages(*steps), seed=5, device="cpu", cache=cache, **options)
    return distiller.fit(loader)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_cached_run_has_the_same_losses_bit_for_bit_and_runs_the_teacher_in_the_first_pass_only(workers):
    plain = run()
    teacher = net(6, 1, Counted)
    cached = run({"budget": "1MB"}, teacher=teacher, workers=workers)
    assert losses(cached) == losses(plain)
    assert all(torch.equal(a, b) for a, b in zip(cached.student.parameters(), plain.student.parameters(), strict=True))
    # traced once, run whole and in halves to check that samples are independent; then a pass of two variants with three
    # batches each
    assert teacher.runs == 1 + 3 + 6
    assert cached.stages[0].recalled == pytest.approx((14 - 6) / 14)
    assert plain.stages[0].recalled is None


def test_ragged_batches_agree_to_the_last_digits():
    plain, cached = run(batch_size=5), run({"budget": "1MB"}, batch_size=5)
    for ours, theirs in zip(losses(cached), losses(plain), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6)


def test_a_later_stage_recalls_the_taps_that_an_earlier_one_read():
    cached = run({"budget": "1MB"}, steps=(6, 4))
    assert [stage.recalled for stage in cached.stages] == [0.0, 1.0]
    assert losses(cached) == losses(run(steps=(6, 4)))


def test_a_folder_is_shared_between_runs_but_not_between_teachers_or_data(tmp_path):
    cache = {"budget": "1MB", "folder": tmp_path}
    assert run(cache, steps=(6,)).stages[0].recalled == 0.0
    assert not list(tmp_path.rglob("*.part"))
    again = run(cache, steps=(6,))
    assert again.stages[0].recalled == 1.0
    assert losses(again) == losses(run(steps=(6,)))
    other = net(6, 1, Counted)
    with torch.no_grad():
        other[6].weight[0, 0] += 1e-3
    assert run(cache, steps=(6,), teacher=other).stages[0].recalled == 0.0

    class Noisy(Shifted):
        def __getitem__(self, index):
            image, target = super().__getitem__(index)
            return image + 1e-6, target

    different = run(cache, steps=(6,), data=Noisy())
    assert different.stages[0].recalled == 0.0
    assert losses(different) == losses(run(steps=(6,), data=Noisy()))


def test_entries_in_half_precision_round_first_runs_as_well_so_that_hits_change_nothing(tmp_path):
    first = run({"budget": "1MB", "dtype": "bf16", "folder": tmp_path}, steps=(6,))
    second = run({"budget": "1MB", "dtype": "bf16", "folder": tmp_path}, steps=(6,))
    assert (first.stages[0].recalled, second.stages[0].recalled) == (0.0, 1.0)
    assert losses(first) == losses(second)
    for ours, exact in zip(losses(first), losses(run(steps=(6,))), strict=True):
        assert ours == pytest.approx(exact, rel=0.02)


def test_entries_in_fp16_can_be_recalled_in_a_run_in_bf16(tmp_path):
    cache = {"budget": "1MB", "dtype": "fp16", "folder": tmp_path}
    first, second = (run(cache, steps=(6,), precision="bf16") for _ in range(2))
    assert (first.stages[0].recalled, second.stages[0].recalled) == (0.0, 1.0)
    assert losses(first) == losses(second)


def test_a_run_that_is_stopped_and_resumed_ends_with_the_same_weights(tmp_path, interrupts_second_call):
    cache = {"budget": "1MB", "dtype": "fp16"}
    whole = run(cache, steps=(7, 7))
    teacher, loader = net(6, 1), SampleLoader(Shifted(), 4, seed=3)
    with pytest.raises(InterruptedError):
        ProgressiveDistiller(teacher, net(4, 2), stages(7, 7), seed=5, device="cpu", cache=cache, out=tmp_path).fit(
            loader, evaluate=interrupts_second_call
        )
    resumed = ProgressiveDistiller(
        teacher, net(4, 2), stages(7, 7), seed=5, device="cpu", cache=cache, out=tmp_path
    ).fit(loader)
    for ours, theirs in zip(resumed.student.parameters(), whole.student.parameters(), strict=True):
        assert torch.equal(ours, theirs)


class NewEveryEpoch(Shifted):
    variants = None


class WithoutVariants(Shifted):
    def __getattribute__(self, name):
        if name == "variants":
            raise AttributeError(name)
        return super().__getattribute__(name)


class Noise(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)


class PythonNoise(nn.Module):
    def forward(self, x):
        return x * (1 + 1e-6 * random.random())


class AcrossSamples(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


class ByPlace(nn.Module):
    """A model whose tensors depend on the place in the batch: equal for the first half, whatever the second holds."""

    def forward(self, x):
        return x + torch.arange(len(x))[:, None]


@pytest.mark.parametrize(
    ("cache", "data", "last", "message"),
    [
        (
            {"budget": "1MB"},
            NewEveryEpoch(),
            None,
            "NewEveryEpoch does not say after how many epochs .*every epoch is new",
        ),
        ({"budget": "1MB"}, WithoutVariants(), None, "WithoutVariants does not say .*it has no attribute `variants`"),
        ({"budget": "10KB"}, None, None, "stage 's0' needs 46.6 KB: 1.94 KB for each of 24 samples .* budget is 10 KB"),
        ({"budget": "1MB"}, None, Noise(), "cache: teacher draws random numbers even in eval mode"),
        ({"budget": "1MB"}, None, PythonNoise(), "cache: teacher draws random numbers even in eval mode"),
        ({"budget": "1MB"}, None, ByPlace(), r"teacher:\. depends on more than one sample"),
        ({"budget": "1MB"}, None, AcrossSamples(), r"teacher:\. depends on more than one sample"),
        ({"budget": "1MB"}, None, nn.Flatten(0), "only tensors whose first dimension is the batch's"),
    ],
)
def test_a_cache_that_could_be_wrong_is_refused_with_the_reason(cache, data, last, message):
    teacher = net(6, 1) if last is None else nn.Sequential(*net(6, 1), last)
    stage = Stage(
        "s0", matches=[Match("1"), Match("4"), Match(".", ".", loss=summed, adapter=None)], steps=14, optimizer=SGD
    )
    loader = SampleLoader(data or Shifted(), 4)
    with pytest.raises(RecipeError, match=message):
        ProgressiveDistiller(teacher, net(4, 2), [stage], device="cpu", cache=cache).fit(loader)


def summed(student, teacher):
    return (student.sum() - teacher.sum()) ** 2 * 1e-6


def test_a_foreign_loader_is_refused_and_under_auto_goes_uncached(capsys):
    batches = [(torch.randn(4, 3, 8, 8), torch.randint(5, (4,)))]
    for cache in ({"budget": "1MB"}, "auto"):
        distiller = ProgressiveDistiller(net(6, 1), net(4, 2), stages(2), device="cpu", cache=cache)
        if cache != "auto":
            with pytest.raises(RecipeError, match="a list does not tell which samples a batch holds"):
                distiller.fit(batches)
        else:
            assert distiller.fit(batches).stages[0].recalled is None
    assert "no cache: a list does not tell" in capsys.readouterr().err


@pytest.mark.parametrize(("recalling", "share"), [(0.4, 8 / 14), (0.6, 0.0)])
def test_auto_keeps_the_cache_only_where_recalling_takes_less_than_half_the_time_of_a_run(
    monkeypatch, capsys, recalling, share
):
    clock = itertools.cycle([0.0, 1.0, 0.0, recalling])  # a run begins and ends, a recall begins and ends
    monkeypatch.setattr("compresskit.distill.cache.lookup._now", lambda _: next(clock))
    assert run("auto").stages[0].recalled == pytest.approx(share)
    assert ("no cache for teacher: recalling takes more than half" in capsys.readouterr().err) == (share == 0)


def test_auto_uses_no_cache_where_no_sample_comes_again(capsys):
    assert run("auto", steps=(6,)).stages[0].recalled is None
    assert "no longer than one pass" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("share", "words"), [(0.8, "saves up to 80% of a step"), (0.05, "the teacher is the cheap part")]
)
def test_the_plan_says_how_much_time_and_space_a_cache_takes(monkeypatch, share, words):
    batch = torch.randn(4, 3, 8, 8), torch.randint(5, (4,))
    assert 0 < planned({"budget": "1MB"}, batch).stages[0].teacher_share < 1
    monkeypatch.setattr("compresskit.distill.session.plan._teacher_share", lambda *_: share)
    text = str(planned({"budget": "1MB"}, batch))
    assert words in text
    assert "1.94 KB a sample" in text  # (6 * 64 + 6 * 16 + 5) * 4 bytes
    assert planned(None, batch).stages[0].teacher_share is None
    assert "cache" not in str(planned(None, batch))


def planned(cache, batch):
    return ProgressiveDistiller(net(6, 1), net(4, 2), stages(2), device="cpu", cache=cache).plan(batch)


def test_fp16_that_overflows_is_an_error_and_not_infinity():
    teacher = net(6, 1)
    with torch.no_grad():
        teacher[0].bias.fill_(3e5)
        teacher[1].running_var.fill_(1e-3)
    with pytest.raises(RecipeError, match="fp16 cannot hold the tensor at teacher:1"):
        run({"budget": "1MB", "dtype": "fp16"}, teacher=teacher)


class Infinite(nn.Module):
    def forward(self, x):
        return torch.cat([x, torch.full_like(x[:, :1], -torch.inf)], 1)


def test_infinity_in_the_teacher_s_own_output_is_kept_in_fp16():
    teacher = nn.Sequential(*net(6, 1), Infinite())
    stage = Stage("s", matches=[Match(".", loss=finite, adapter=None)], steps=6, optimizer=SGD)
    cache = {"budget": "1MB", "dtype": "fp16"}
    distiller = ProgressiveDistiller(teacher, net(4, 2), [stage], device="cpu", cache=cache)
    assert distiller.fit(SampleLoader(Shifted(4), 4)).stages[0].recalled == pytest.approx(4 / 6)


def finite(student, teacher):
    return ((student - teacher[:, :5]) ** 2).mean()


class Overwriting(nn.Sequential):
    """A model that doubles its input in place."""

    def forward(self, x):
        return super().forward(x.mul_(2))


@pytest.mark.parametrize("cache", [{"budget": "1MB"}, "auto"])
def test_a_teacher_that_writes_into_its_input_can_be_recalled(cache):
    plain, cached = (run(option, teacher=net(6, 1, Overwriting)) for option in (None, cache))
    assert losses(cached) == losses(plain)


def test_auto_goes_on_without_tensors_that_cannot_be_kept(capsys):
    teacher = nn.Sequential(*net(6, 1), AcrossSamples())
    plain, cached = run(teacher=teacher), run("auto", teacher=teacher)
    assert losses(cached) == losses(plain)
    assert "no cache for teacher: the tensor at teacher:. depends on more than one sample" in capsys.readouterr().err


class Choice(nn.Module):
    def forward(self, x):
        return x.argmax(1)


def test_whole_numbers_keep_their_type_and_are_counted_in_it():
    teacher = nn.Sequential(*net(6, 1), Choice())
    stage = Stage("s", matches=[Match(".", loss=nn.functional.cross_entropy, adapter=None)], steps=12, optimizer=SGD)

    def fitted(budget):
        cache = None if budget is None else {"budget": budget, "dtype": "fp16"}
        distiller = ProgressiveDistiller(teacher, net(4, 2), [stage], device="cpu", cache=cache)
        return distiller.fit(SampleLoader(Shifted(), 4))

    assert losses(fitted(24 * 8)) == losses(fitted(None))
    with pytest.raises(RecipeError, match="needs 192 B: 8 B for each of 24 samples"):
        fitted(24 * 8 - 1)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecipeError, match=r"cache: the folder .*file' cannot be written: File exists"):
        run({"budget": "1MB", "folder": tmp_path / "file"})
