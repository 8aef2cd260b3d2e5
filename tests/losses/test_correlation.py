import pytest
import torch

from compresskit.errors import RecipeError, ShapeError
from compresskit.losses import dist


def test_dist_within_samples_by_hand():
    # shares minus 1/3, times 30: (-1, 8, -7) and (8, -1, -7), correlation 33 / 114
    student = torch.tensor([[0.3, 0.6, 0.1]] * 2).log()
    teacher = torch.tensor([[0.6, 0.3, 0.1]] * 2).log()
    torch.testing.assert_close(dist(student, teacher, beta=2.0, gamma=0.0), torch.tensor(2 * (1 - 33 / 114)))


def test_dist_within_classes_by_hand():
    student = torch.tensor([[0.6, 0.4], [0.9, 0.1]]).log()
    teacher = torch.tensor([[0.8, 0.2], [0.3, 0.7]]).log()
    # samples: the first agrees (0), the second prefers the other class (2); classes: each rises where it should fall
    torch.testing.assert_close(dist(student, teacher, beta=1, gamma=10), torch.tensor(1.0 + 20.0))


def test_dist_compares_preferences_not_probabilities():
    teacher = torch.randn(8, 2)
    student = 0.1 * teacher  # of two classes, a weaker preference is perfectly correlated within each sample
    assert dist(student, teacher, gamma=0) < 1e-6


def test_dist_of_a_class_that_is_never_predicted_is_finite():
    logits = torch.randn(4, 3)
    logits[:, 2] = -torch.inf
    assert dist(logits, logits) < 1e-6


def test_dist_refuses_other_shapes_and_single_samples():
    with pytest.raises(ShapeError, match="dist: shapes must be equal"):
        dist(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ShapeError, match="batch of at least 2, got 1"):
        dist(torch.zeros(1, 3), torch.zeros(1, 3))
    with pytest.raises(RecipeError, match="dist: gamma must be at least 0, got -1"):
        dist(torch.zeros(2, 3), torch.zeros(2, 3), gamma=-1)
