import math

import pytest
import torch

from compresskit.errors import ShapeError
from compresskit.losses import cka, probabilistic_transfer, similarity_preserving


def test_similarity_preserving_by_hand():
    student = torch.tensor([[1.0, 0.0], [0.0, 2.0]])  # G = (1 0 / 0 4), rows (1, 0) and (0, 1)
    teacher = torch.tensor([[1.0, 0.0], [1.0, 1.0]])  # G = (1 1 / 1 2), rows (1, 1) / sqrt(2) and (1, 2) / sqrt(5)
    root_2, root_5 = 2**0.5, 5**0.5
    expected = ((1 - 1 / root_2) ** 2 + 1 / 2 + 1 / 5 + (1 - 2 / root_5) ** 2) / 4
    torch.testing.assert_close(similarity_preserving(student, teacher), torch.tensor(expected))


@pytest.mark.parametrize(("other", "expected"), [([1, -2, 1], 1.0), ([0, 0, 3], 1 - 9 / 12), ([5, 7, 9], 0.0)])
def test_cka_of_one_feature_is_one_minus_the_squared_correlation(other, expected):
    line = torch.tensor([[-1.0], [0.0], [1.0]])
    torch.testing.assert_close(cka(line, torch.tensor(other).float()[:, None]), torch.tensor(expected))


def test_cka_ignores_rotation_scale_and_shift():
    features = torch.randn(8, 5)
    rotation = torch.linalg.qr(torch.randn(5, 5)).Q
    assert cka(3 * features @ rotation + 10, features) < 1e-5
    assert cka(torch.randn(8, 5), features) > 0.1


def test_probabilistic_transfer_by_hand():
    # e1, e2, -e1: the first and the last always pick the second, which picks either
    teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    # at 120 degrees, all pick either
    student = torch.tensor([[1.0, 0.0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]])
    torch.testing.assert_close(
        probabilistic_transfer(student, teacher), torch.tensor(2 / 3 * math.log(2)), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("loss", [similarity_preserving, cka, probabilistic_transfer])
def test_features_may_be_of_any_size_and_scale(loss):
    student, teacher = torch.randn(6, 3, 4, 4), torch.randn(6, 7)
    value = loss(student, teacher)
    assert value > 1e-4
    for scale in (1e-8, 1e8):
        torch.testing.assert_close(loss(scale * student, teacher), value)


@pytest.mark.parametrize(("loss", "least"), [(similarity_preserving, 2), (cka, 3), (probabilistic_transfer, 3)])
def test_a_batch_of_too_few_samples_is_refused(loss, least):
    message = f"{loss.__name__}: .* needs a batch of at least {least}, got {least - 1}; use larger batches"
    with pytest.raises(ShapeError, match=message):
        loss(torch.randn(least - 1, 4), torch.randn(least - 1, 4))
