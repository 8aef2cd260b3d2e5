import pytest
import torch
from sklearn.datasets import load_digits

from compresskit.data import SampleId
from compresskit.errors import RecipeError
from zoo.classify import Digits


def _counts(digits):
    return torch.bincount(digits.labels, minlength=10).tolist()


def test_the_three_splits_share_all_1797_images_and_no_image_twice():
    splits = [Digits(split) for split in ("train", "val", "test")]
    assert [len(split) for split in splits] == [797, 400, 600]
    assert _counts(splits[1]) == [40] * 10
    assert _counts(splits[2]) == [60] * 10
    images = torch.cat([split.images for split in splits]).flatten(1)
    every = torch.from_numpy(load_digits().data / 16).float()
    assert torch.equal(torch.unique(images, dim=0), torch.unique(every, dim=0))
    assert len(images) == len(every)


def test_a_sample_is_an_image_from_0_to_1_and_its_label():
    image, label = Digits("test", channels=3)[7]
    assert (image.shape, image.dtype) == ((3, 8, 8), torch.float32)
    assert (label.shape, label.dtype) == ((), torch.int64)
    assert torch.equal(image[0], image[2])
    assert Digits("test").images.aminmax() == (0.0, 1.0)


def test_the_split_is_decided_by_its_seed_alone():
    torch.rand(5)
    assert torch.equal(Digits().images, Digits().images)
    assert not torch.equal(Digits("val", seed=0).images, Digits("val", seed=1).images)


def test_few_images_of_each_class_are_among_more_of_them():
    few, more = Digits(per_class=3), Digits(per_class=10)
    assert _counts(few) == [3] * 10
    assert _counts(more) == [10] * 10
    assert {tuple(image.flatten().tolist()) for image in few.images} < {
        tuple(image.flatten().tolist()) for image in more.images
    }


def test_a_shift_is_a_function_of_seed_index_and_epoch():
    digits, again = Digits(shift=2), Digits(shift=2)
    digits[SampleId(1, epoch=4, seed=1)]  # earlier samples do not matter
    image = digits[SampleId(5, epoch=2, seed=3)][0]
    assert torch.equal(image, again[SampleId(5, epoch=2, seed=3)][0])
    others = [digits[SampleId(5, epoch=epoch, seed=3)][0] for epoch in range(10)]
    assert any(not torch.equal(image, other) for other in others)


def test_shifts_repeat_after_the_variants_and_without_a_shift_every_epoch_is_the_same():
    digits = Digits(shift=2, variants=3)
    first, *others, again = (digits[SampleId(5, epoch=epoch, seed=3)][0] for epoch in range(4))
    assert torch.equal(first, again)
    assert any(not torch.equal(first, other) for other in others)
    assert [Digits(shift=1).variants, digits.variants, Digits().variants] == [None, 3, 1]


def test_a_shift_moves_the_image_and_the_border_becomes_black():
    digits = Digits(shift=1)
    whole = torch.zeros(1, 10, 10)
    whole[:, 1:9, 1:9] = Digits()[0][0]
    ways = [whole[:, top : top + 8, left : left + 8] for top in range(3) for left in range(3)]
    shown = [digits[SampleId(0, epoch=epoch)][0] for epoch in range(80)]
    seen = {next(way for way in range(9) if torch.equal(ways[way], image)) for image in shown}
    assert seen == set(range(9))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "tests"}, "split: there is no 'tests'; did you mean 'test'?"),
        ({"per_class": 75}, "per_class: 'train' has 74 images of each class, got 75"),
        ({"split": "val", "per_class": 0}, "per_class: 'val' has 40 images of each class, got 0"),
        ({"shift": 8}, "shift must be from 0 to 7 pixels, got 8"),
        ({"channels": 0}, "channels must be a whole number of at least 1, got 0"),
        ({"variants": 0}, "variants must be a whole number of at least 1, got 0"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(RecipeError) as error:
        Digits(**options)
    assert str(error.value) == message
