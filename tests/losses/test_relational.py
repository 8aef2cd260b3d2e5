import pytest
import torch

from compresskit.errors import ShapeError
from compresskit.losses import relational_angle, relational_distance

LINE = torch.tensor([[0.0], [1.0], [3.0]])  # distances 1, 3, 2: over their mean 1/2, 3/2, 1
TRIANGLE = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])  # 3, 4, 5: over their mean 3/4, 1, 5/4


def test_relational_distance_by_hand():
    expected = (0.25**2 + 0.5**2 + 0.25**2) / 2 / 3
    torch.testing.assert_close(relational_distance(LINE, TRIANGLE), torch.tensor(expected))


def test_relational_angle_by_hand():
    # cosines at the three points: 1, -1, 1 on the line; 0, 3/5, 4/5 in the triangle; beyond 1, a difference is linear
    expected = (1 / 2 + (1.6 - 1 / 2) + 0.2**2 / 2) / 3
    torch.testing.assert_close(relational_angle(LINE, TRIANGLE), torch.tensor(expected))


@pytest.mark.parametrize("loss", [relational_distance, relational_angle])
def test_a_rotated_shifted_and_scaled_copy_has_the_same_relations(loss):
    features = torch.randn(6, 4)
    rotation = torch.linalg.qr(torch.randn(4, 4)).Q
    for scale in (1e-8, 1.0, 1e8):
        assert loss(scale * (features @ rotation + 2), features) < 1e-8
    assert loss(torch.randn(6, 3, 2), features) > 1e-3


@pytest.mark.parametrize("loss", [relational_distance, relational_angle])
def test_samples_that_coincide_up_to_rounding_have_no_gradient_between_them(loss):
    student = torch.randn(6, 50)
    student[1] = student[0] + 1e-5 * torch.randn(50)
    student.requires_grad_()
    loss(student, torch.randn(6, 50)).backward()
    assert student.grad.abs().max() < 0.05


@pytest.mark.parametrize("loss", [relational_distance, relational_angle])
def test_fewer_than_three_samples_are_refused(loss):
    with pytest.raises(ShapeError, match=f"{loss.__name__}: .* needs a batch of at least 3, got 2"):
        loss(torch.randn(2, 4), torch.randn(2, 4))
