import random
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from compresskit.data import SampleLoader, endless, rng
from compresskit.distill.batches import BatchStream
from compresskit.distill.execution import Execution
from compresskit.errors import DataError
from compresskit.randomness import own_randomness, restore_rng_state, rng_state


class Noisy(Dataset):
    """A dataset that draws from every global generator, as foreign datasets do."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return torch.tensor([index, torch.rand(()), random.random(), np.random.rand()])


class Stateless(Dataset):
    def __len__(self):
        return 10

    def __getitem__(self, sample):
        return torch.tensor([sample, rng(sample.seed, sample, sample.epoch).random()])


def batches_of(loader, position, count, seed=0):
    batches = endless(loader, position, seed)
    return [next(batches) for _ in range(count)]


@pytest.mark.parametrize("dataset", [Noisy(), Stateless()])
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_depend_on_the_position_and_not_on_workers(dataset, workers):
    expected = batches_of(SampleLoader(dataset, 4, seed=3), 0, 8)
    got = batches_of(SampleLoader(dataset, 4, seed=3, workers=workers), 5, 3)
    for ours, theirs in zip(expected[5:], got, strict=True):
        assert torch.equal(ours.value, theirs.value)
        assert (ours.epoch, ours.last) == (theirs.epoch, theirs.last)


def test_the_draws_of_a_sample_depend_on_seed_sample_and_epoch_alone():
    (_, batch) = batches_of(SampleLoader(Noisy(), 10, seed=3), 0, 2)
    for sample, value in zip(batch.samples, batch.value, strict=True):
        with own_randomness(3, sample, 1):
            assert torch.equal(value, Noisy()[sample])


class Broken(Noisy):
    """A dataset that draws, and fails in the second epoch."""

    def __getitem__(self, index):
        value = super().__getitem__(index)
        if index.epoch == 1:
            raise ValueError("broken")
        return value


@pytest.mark.parametrize("dataset", [Noisy(), Broken()])
def test_draws_between_batches_do_not_change_the_batches(dataset):
    def draws():
        return [random.random(), np.random.rand(), float(torch.rand(()))]

    with own_randomness(1):
        expected = draws() + draws()
    batches = SampleLoader(dataset, 10).batches(0)
    next(batches)
    with own_randomness(1):
        got = draws()
        with pytest.raises(ValueError, match="broken") if isinstance(dataset, Broken) else nullcontext():
            next(batches)
        assert got + draws() == expected


@pytest.mark.parametrize(("device", "pinned"), [("cuda", True), ("cpu", False)])
def test_batches_are_pinned_only_for_a_run_on_a_gpu(monkeypatch, device, pinned):
    loaders = []
    monkeypatch.setattr(
        "compresskit.data.DataLoader",
        lambda _, batch_sampler, **options: loaders.append(options) or ([torch.zeros(4, 1)] for _ in batch_sampler),
    )
    monkeypatch.setattr("compresskit.distill.batches.to_device", lambda value, _: value)  # there may be no GPU
    BatchStream(SampleLoader(Noisy(), 4), 0, Execution(device=torch.device(device)), None).peek()
    assert [options["pin_memory"] for options in loaders] == [pinned]


def test_an_epoch_holds_each_sample_once_and_ends_in_a_smaller_batch():
    batches = batches_of(SampleLoader(Stateless(), 4, seed=1), 0, 6)
    assert [len(batch.value) for batch in batches] == [4, 4, 2, 4, 4, 2]
    assert [batch.last for batch in batches] == [False, False, True] * 2
    for epoch in (batches[:3], batches[3:]):
        assert sorted(int(v) for batch in epoch for v in batch.value[:, 0]) == list(range(10))


def test_each_epoch_has_its_own_augmentation():
    first, second = (
        torch.cat([batch.value for batch in epoch])
        for epoch in (
            batches_of(SampleLoader(Stateless(), 5, shuffle=False), 0, 2),
            batches_of(SampleLoader(Stateless(), 5, shuffle=False), 2, 2),
        )
    )
    assert torch.equal(first[:, 0], second[:, 0])
    assert not torch.equal(first[:, 1], second[:, 1])


@pytest.mark.parametrize("generator", [None, torch.Generator()])
def test_a_foreign_loader_is_replayed_from_any_position(generator):
    def loader():
        return DataLoader(Noisy(), batch_size=4, shuffle=True, generator=generator)

    expected = batches_of(loader(), 0, 7)
    torch.rand(3)
    for ours, theirs in zip(expected[4:], batches_of(loader(), 4, 3), strict=True):
        assert torch.equal(ours.value, theirs.value)


def test_a_foreign_loader_leaves_the_caller_s_generators_alone():
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    batches = endless(DataLoader(Noisy(), batch_size=4, shuffle=True), 0, 0)
    got = []
    for _ in range(4):
        next(batches)
        got.append(torch.rand(()))
    batches.close()
    assert torch.equal(torch.stack(got), expected)


def test_a_list_is_iterated_again_and_again():
    assert [batch.value for batch in batches_of([1, 2, 3], 4, 4)] == [2, 3, 1, 2]


@pytest.mark.parametrize(("loader", "message"), [([], "is empty"), (iter([1]), "it can be walked only once")])
def test_an_error_names_the_loader_that_yields_nothing(loader, message):
    with pytest.raises(DataError, match=message):
        batches_of(loader, 0, 2)


def test_an_empty_dataset_is_refused():
    with pytest.raises(DataError, match="holds no samples"):
        SampleLoader(TensorDataset(torch.empty(0, 3)), 4)


def test_own_randomness_restores_every_generator_and_seeds_no_gpu_that_is_not_in_use(monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    np.random.seed(5)
    np.random.standard_normal()  # it draws two, and keeps one

    def draw():
        return random.random(), np.random.standard_normal(), torch.rand(()).item()

    before = rng_state()
    with own_randomness(1, 2):
        inside = draw()
    outside = draw()
    restore_rng_state(before)
    assert outside == draw()
    with own_randomness(1, 2):
        assert inside == draw()
    assert not seeded


class Damaged(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        raise DataError("photo.png cannot be read")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_worker_is_one_line(workers):
    with pytest.raises(DataError) as caught:
        next(endless(SampleLoader(Damaged(), 2, workers=workers), 0, 0))
    assert str(caught.value) == "photo.png cannot be read"


class _Pictures(torch.utils.data.Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return object(), index


def test_samples_that_make_no_batch_are_reported_by_what_they_hold():
    with pytest.raises(DataError, match="the samples make no batch: a sample holds a object"):
        next(iter(SampleLoader(_Pictures(), 2)))
