"""The number of samples in a batch, where it is known, and the part of one process."""

import pytest
import torch

from compresskit.distill.samples import rows_of, sample_count
from compresskit.errors import DataError

IMAGES = [torch.zeros(3, 5, 6), torch.zeros(3, 7, 4), torch.zeros(3, 5, 5), torch.zeros(3, 2, 2)]
ONE_EACH = torch.zeros(4)


@pytest.mark.parametrize(
    ("inputs", "targets", "declared", "count"),
    [
        (torch.zeros(4, 3), None, None, 4),
        (torch.zeros(4, 3), torch.zeros(4, 7), None, 4),
        (torch.zeros(4, 3), torch.tensor(1.0), None, 4),
        ((torch.zeros(4, 3), torch.zeros(4)), [torch.zeros(2), torch.zeros(3), *IMAGES[:2]], None, 4),
        ({"ids": torch.zeros(4, 9), "mask": torch.zeros(4, 9), "cache": None}, torch.zeros(4), None, 4),
        (torch.zeros(4, 3), {"labels": torch.zeros(4), "weights": torch.zeros(10)}, None, 4),
        ((IMAGES,), None, None, 4),
        ((IMAGES,), [{"boxes": torch.zeros(7, 4)}] * 4, None, 4),
        (IMAGES, ONE_EACH, None, 4),
        ([torch.zeros(4, 3), torch.zeros(4, 2)], ONE_EACH, None, 4),
        (IMAGES, None, None, None),
        (IMAGES, None, 4, 4),
        (torch.zeros(4, 3), torch.zeros(7, 6), None, None),  # boxes of all images
        (torch.zeros(4, 3), torch.zeros(7, 6), 4, 4),
        (torch.zeros(9, 4, 3), ONE_EACH, None, None),  # time first
        (torch.zeros(9, 4, 3), ONE_EACH, 4, 4),
        (torch.zeros(9, 4, 3), torch.zeros(9, 4), 4, 4),
        (torch.zeros(3, 5), torch.zeros(3), 4, 3),  # the collate function has left one out
        (torch.zeros(8, 5), torch.zeros(8), 4, 8),  # or has made two of each
        ((torch.zeros(9, 2), torch.zeros(2, 30)), torch.zeros(3), None, None),  # a graph's nodes and edges
        ({"text": ["a", "b"]}, None, None, 2),
        (torch.tensor(1.0), None, None, None),
        (([],), None, None, 0),
    ],
)
def test_samples_are_counted_where_their_number_is_known(inputs, targets, declared, count):
    assert sample_count(inputs, targets, declared) == count


def test_a_part_of_a_batch_has_rows_of_tensors_and_items_of_lists():
    rows = slice(1, None, 2)
    part = rows_of({"x": torch.arange(4), "images": IMAGES, "scale": torch.tensor(2.0), "name": "text"}, 4, rows)
    assert part["x"].tolist() == [1, 3]
    assert part["images"] == IMAGES[1::2]
    assert (part["scale"], part["name"]) == (2.0, "text")
    arguments = rows_of([torch.arange(2), torch.arange(2)], 2, slice(1), at_top=True)
    assert [argument.tolist() for argument in arguments] == [[0], [0]]
    three = [torch.zeros(3, 2, 2)] * 3  # as many as they have channels
    assert [tuple(image.shape) for image in rows_of((three,), 3, slice(2), at_top=True)[0]] == [(3, 2, 2)] * 2


def test_what_is_not_one_a_sample_is_not_shared_out():
    with pytest.raises(DataError, match=r"shape \(7, 6\) in a batch of 4 samples does not have one row a sample"):
        rows_of({"boxes": torch.zeros(7, 6)}, 4, slice(2))
    assert rows_of(torch.zeros(7, 6), 4, slice(2), shared=True).shape == (7, 6)
