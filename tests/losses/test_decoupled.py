import math

import pytest
import torch

from compresskit.errors import DataError, RecipeError, ShapeError
from compresskit.losses import dkd, kl

# shares 1/4, 1/2, 1/4 against 1/2, 1/4, 1/4; the label is the first class
STUDENT, TEACHER = torch.tensor([[0.0, math.log(2), 0.0]]), torch.tensor([[math.log(2), 0.0, 0.0]])
LABEL = torch.tensor([0])
TCKD = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)  # (1/2, 1/2) against (1/4, 3/4)
NCKD = 0.5 * math.log(3 / 4) + 0.5 * math.log(3 / 2)  # (1/2, 1/2) against (2/3, 1/3)


def test_dkd_by_hand():
    loss = dkd(STUDENT, TEACHER, LABEL, alpha=2, beta=3, temperature=1)
    torch.testing.assert_close(loss, torch.tensor(2 * TCKD + 3 * NCKD))


def test_dkd_softens_and_scales_by_the_squared_temperature():
    loss = dkd(4 * STUDENT, 4 * TEACHER, LABEL, alpha=2.0, beta=3.0, temperature=4.0)
    torch.testing.assert_close(loss, torch.tensor(16 * (2 * TCKD + 3 * NCKD)))


def test_kl_is_dkd_with_the_share_that_the_teacher_leaves_to_the_others():
    torch.testing.assert_close(kl(STUDENT, TEACHER), dkd(STUDENT, TEACHER, LABEL, alpha=1, beta=0.5, temperature=1))


def test_dkd_of_maps_and_tokens_is_dkd_of_their_places():
    student, teacher = torch.randn(2, 6, 5)
    labels = torch.randint(0, 5, (6,))
    one = dkd(student, teacher, labels)
    maps = (logits.reshape(2, 3, 1, 5).movedim(3, 1) for logits in (student, teacher))
    torch.testing.assert_close(dkd(*maps, labels.reshape(2, 3, 1).byte()), one)
    tokens = [logits.reshape(2, 3, 5) for logits in (student, teacher)]
    torch.testing.assert_close(dkd(*tokens, labels.reshape(2, 3), dim=-1), one)
    torch.testing.assert_close(dkd(*tokens, labels.reshape(2, 3)), one)


def test_classes_at_minus_infinity_change_nothing():
    student, teacher = torch.randn(2, 4, 5)
    labels, absent = torch.randint(0, 5, (4,)), torch.full((4, 95), -torch.inf)
    wider = dkd(torch.cat([student, absent], 1), torch.cat([teacher, absent], 1), labels)
    torch.testing.assert_close(wider, dkd(student, teacher, labels))


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (torch.tensor([0, 1]), ShapeError, r"labels must be class indices of shape \(1,\), got int64 of \(2,\)"),
        (torch.ones(1, 3), ShapeError, r"labels must be class indices of shape \(1,\), got float32 of \(1, 3\)"),
        (torch.tensor([3]), DataError, "labels must be from 0 to 2, got 3"),
        (torch.tensor([-100]), DataError, "labels must be from 0 to 2, got -100"),
    ],
)
def test_dkd_refuses_labels_that_do_not_fit(labels, error, message):
    with pytest.raises(error, match=f"dkd: {message}"):
        dkd(STUDENT, TEACHER, labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -1}, "alpha must be at least 0, got -1"),
        ({"beta": -0.5}, r"beta must be at least 0, got -0\.5"),
        ({"temperature": 0}, "temperature must be above 0, got 0"),
    ],
)
def test_dkd_refuses_options_out_of_range(options, message):
    with pytest.raises(RecipeError, match=f"dkd: {message}"):
        dkd(STUDENT, TEACHER, LABEL, **options)


def test_dkd_needs_two_classes():
    with pytest.raises(ShapeError, match="have one class"):
        dkd(torch.zeros(2, 1), torch.zeros(2, 1), torch.zeros(2, dtype=torch.long))
