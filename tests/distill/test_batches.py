"""Batches whose samples are not the first dimension of the first tensor: each sample counts the same all the same."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from compresskit import DataError, ProgressiveDistiller, Stage, Task

SGD = {"_target_": "torch.optim.SGD", "lr": 0.1}


class Detector(nn.Module):
    """A model of a list of pictures of any sizes."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)

    def forward(self, pictures):
        return torch.stack([self.first(picture).mean((1, 2)) for picture in pictures])


class Sequences(nn.Module):
    """A model of sequences whose first dimension is time."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)

    def forward(self, x):
        return self.first(x).mean(0)


def pictures(count, seed):
    generator = torch.Generator().manual_seed(seed)
    images = [torch.randn(3, 4 + number, 5, generator=generator) for number in range(count)]
    return (images,), torch.randn(count, 4, generator=generator)


def sequences(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(6, count, 3, generator=generator), torch.randn(count, 4, generator=generator)


def trained(model, batches, steps=1, validation=None, unpack=None, **options):
    model = copy.deepcopy(model)
    stage = Stage("s", tasks=[Task("mse")], steps=steps, optimizer=SGD, **options)
    result = ProgressiveDistiller(None, model, [stage], device="cpu").fit(batches, validation, unpack=unpack)
    return model.first.weight.detach(), result.history[0]["terms"]["mse(., target)"]["value"], result


def test_lists_of_pictures_count_by_their_items():
    model, (one, two) = Detector(), (pictures(5, 0), pictures(1, 1))
    whole = ((one[0][0] + two[0][0],), torch.cat([one[1], two[1]]))
    weight, value, result = trained(model, [one, two], accumulate=2, validation=[one, two])
    expected = trained(model, [whole], validation=[whole])
    torch.testing.assert_close(weight, expected[0])
    assert value == pytest.approx(expected[1])
    assert result.stages[0].validation == pytest.approx(expected[2].stages[0].validation)


def counted(batch):
    return (*batch, len(batch[1]))


def as_mapping(batch):
    return {"inputs": batch[0], "targets": batch[1], "count": len(batch[1])}


@pytest.mark.parametrize("unpack", [counted, as_mapping])
def test_unpack_may_say_how_many_samples_there_are(unpack):
    model, (one, two) = Sequences(), (sequences(5, 0), sequences(2, 1))
    whole = torch.cat([one[0], two[0]], dim=1), torch.cat([one[1], two[1]])
    weight, value, result = trained(model, [one, two], accumulate=2, validation=[one, two], unpack=unpack)
    expected = trained(model, [whole], validation=[whole])
    torch.testing.assert_close(weight, expected[0])
    assert value == pytest.approx(expected[1])
    assert result.stages[0].validation == pytest.approx(expected[2].stages[0].validation)


def test_a_data_loader_knows_how_many_samples_there_are():
    samples, model = [sequences(1, seed) for seed in range(7)], Sequences()

    def collate(batch):
        return torch.cat([x for x, _ in batch], dim=1), torch.cat([y for _, y in batch])

    weight, value, _ = trained(model, DataLoader(samples, 5, collate_fn=collate), accumulate=2)
    expected = trained(model, [collate(samples)])
    torch.testing.assert_close(weight, expected[0])
    assert value == pytest.approx(expected[1])


def test_samples_that_cannot_be_counted_are_refused_where_the_count_matters():
    batches = [sequences(5, 0), sequences(2, 1)]
    message = "not known how many samples a batch holds, with inputs of 6 and targets of 5, and accumulate weighs"
    with pytest.raises(DataError, match=message):
        trained(Sequences(), batches, accumulate=2)
    with pytest.raises(DataError, match="validation weighs each batch by them: let unpack return"):
        trained(Sequences(), batches, validation=batches)


class Recurrent(nn.Module):
    """A model that gives a vector for each time, with time first, as torch's layers do by default."""

    def __init__(self):
        super().__init__()
        self.first = nn.LSTM(3, 4)

    def forward(self, x):
        return self.first(x)[0]


def test_sequences_that_agree_on_their_length_do_not_count_by_it():
    batches = [(torch.randn(6, count, 3), torch.randn(6, count, 4)) for count in (5, 2)]
    stage = Stage("s", tasks=[Task("mse")], steps=1, accumulate=2)
    distiller = ProgressiveDistiller(None, Recurrent(), [stage], device="cpu")
    with pytest.raises(DataError, match=r"not known how many samples .* inputs of 6 and targets of 6, and accumulate"):
        distiller.fit(batches)
    distiller.fit(batches, unpack=lambda batch: (*batch, batch[0].shape[1]))


def test_a_batch_alone_needs_no_count():
    result = trained(Sequences(), [sequences(5, 0)], steps=2, validation=[sequences(4, 1)])[2]
    assert [record["samples_per_s"] for record in result.history] == [None, None]
    assert len(result.stages[0].validation) == 2


@pytest.mark.parametrize("empty", [(torch.zeros(0, 3), torch.zeros(0, 3)), (([],), []), ((torch.zeros(0, 3),), None)])
def test_an_empty_batch_is_refused(empty):
    student, full = nn.Linear(3, 3), (torch.zeros(2, 3), torch.zeros(2, 3))
    distiller = ProgressiveDistiller(None, student, [Stage("s", tasks=[Task("mse")], steps=3)], device="cpu")
    message = "a batch holds no samples .*; leave it out of the loader"
    with pytest.raises(DataError, match=message):
        distiller.fit([full, empty])
    with pytest.raises(DataError, match=message):
        distiller.fit([full], [full, empty])
    with pytest.raises(DataError, match=message):
        distiller.plan(empty)


def test_unpack_must_return_the_parts_of_a_batch():
    with pytest.raises(DataError, match=r"unpack must return .inputs, targets. or .inputs, targets, count., got int"):
        trained(Sequences(), [sequences(2, 0)], unpack=lambda _: 3)
