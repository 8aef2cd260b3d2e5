import pytest
import torch

from compresskit import ShapeError
from compresskit.losses.features import relative_mse


def test_relative_mse_on_a_hand_case():
    student, teacher = torch.tensor([1.0, 0.0]), torch.tensor([3.0, 4.0])  # (4 + 16) / 25
    torch.testing.assert_close(relative_mse(student, teacher), torch.tensor(0.8))


def test_relative_mse_is_one_for_zeros_at_any_scale_and_finite_for_a_silent_teacher():
    teacher = torch.randn(2, 3, 4, 4)
    for scale in (1e-4, 1.0, 1e4):
        torch.testing.assert_close(relative_mse(torch.zeros_like(teacher), scale * teacher), torch.tensor(1.0))
    assert relative_mse(torch.zeros(4), torch.zeros(4)) == 0
    assert relative_mse(torch.full((4,), 3.0), torch.zeros(4)) == 9  # nothing to be relative to


def test_relative_mse_refuses_other_shapes():
    with pytest.raises(ShapeError, match="relative_mse: shapes must be equal"):
        relative_mse(torch.zeros(2, 1), torch.zeros(2, 8))
