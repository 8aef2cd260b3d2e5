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
    """Draws from every global generator, as foreign datasets do."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return torch.tensor([index, torch.rand(()), random.random(), np.random.rand()])


class Stateless(Dataset):
    def __len__(self):
        return 10

    def __getitem__(self, sample):
        return torch.tensor([sample, rng(sample.seed, sample, sample.epoch).random()])


def drawn(loader, position, count, seed=0):
    batches = endless(loader, position, seed)
    return [next(batches) for _ in range(count)]


@pytest.mark.parametrize("dataset", [Noisy(), Stateless()])
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_depend_on_the_position_alone_not_on_workers(dataset, workers):
    expected = drawn(SampleLoader(dataset, 4, seed=3), 0, 8)
    got = drawn(SampleLoader(dataset, 4, seed=3, workers=workers), 5, 3)
    for ours, theirs in zip(expected[5:], got, strict=True):
        assert torch.equal(ours.value, theirs.value)
        assert (ours.epoch, ours.last) == (theirs.epoch, theirs.last)


def test_a_sample_s_draws_follow_from_seed_sample_and_epoch_alone():
    (_, batch) = drawn(SampleLoader(Noisy(), 10, seed=3), 0, 2)
    for sample, value in zip(batch.samples, batch.value, strict=True):
        with own_randomness(3, sample, 1):
            assert torch.equal(value, Noisy()[sample])


class Broken(Noisy):
    """Draws, and then fails in the second epoch."""

    def __getitem__(self, index):
        value = super().__getitem__(index)
        if index.epoch == 1:
            raise ValueError("broken")
        return value


@pytest.mark.parametrize("dataset", [Noisy(), Broken()])
def test_what_is_drawn_between_batches_is_as_if_there_were_none(dataset):
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
def test_batches_are_pinned_for_a_run_on_a_gpu_and_for_no_other(monkeypatch, device, pinned):
    made = []
    monkeypatch.setattr(
        "compresskit.data.DataLoader",
        lambda _, batch_sampler, **options: made.append(options) or ([torch.zeros(4, 1)] for _ in batch_sampler),
    )
    monkeypatch.setattr("compresskit.distill.batches.moved", lambda value, _: value)  # there may be no GPU
    BatchStream(SampleLoader(Noisy(), 4), 0, Execution(device=torch.device(device)), None).peek()
    assert [options["pin_memory"] for options in made] == [pinned]


def test_an_epoch_holds_each_sample_once_and_ends_in_a_smaller_batch():
    batches = drawn(SampleLoader(Stateless(), 4, seed=1), 0, 6)
    assert [len(batch.value) for batch in batches] == [4, 4, 2, 4, 4, 2]
    assert [batch.last for batch in batches] == [False, False, True] * 2
    for epoch in (batches[:3], batches[3:]):
        assert sorted(int(v) for batch in epoch for v in batch.value[:, 0]) == list(range(10))


def test_each_epoch_augments_anew():
    first, second = (
        torch.cat([batch.value for batch in epoch])
        for epoch in (
            drawn(SampleLoader(Stateless(), 5, shuffle=False), 0, 2),
            drawn(SampleLoader(Stateless(), 5, shuffle=False), 2, 2),
        )
    )
    assert torch.equal(first[:, 0], second[:, 0])
    assert not torch.equal(first[:, 1], second[:, 1])


@pytest.mark.parametrize("generator", [None, torch.Generator()])
def test_a_foreign_loader_is_replayed_from_any_position(generator):
    def loader():
        return DataLoader(Noisy(), batch_size=4, shuffle=True, generator=generator)

    expected = drawn(loader(), 0, 7)
    torch.rand(3)
    for ours, theirs in zip(expected[4:], drawn(loader(), 4, 3), strict=True):
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


def test_a_list_is_walked_again_and_again():
    assert [batch.value for batch in drawn([1, 2, 3], 4, 4)] == [2, 3, 1, 2]


@pytest.mark.parametrize(("loader", "message"), [([], "is empty"), (iter([1]), "it can be walked only once")])
def test_a_loader_that_yields_nothing_is_named(loader, message):
    with pytest.raises(DataError, match=message):
        drawn(loader, 0, 2)


def test_an_empty_dataset_is_refused():
    with pytest.raises(DataError, match="holds no samples"):
        SampleLoader(TensorDataset(torch.empty(0, 3)), 4)


def test_own_randomness_restores_every_generator_and_notes_no_seed_for_a_gpu_that_is_not_in_use(monkeypatch):
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
