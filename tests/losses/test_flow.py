import pytest
import torch

from compresskit.errors import ShapeError
from compresskit.losses import fsp, gram


def test_gram_by_hand():
    student = torch.tensor([[1.0, 2.0], [0.0, 1.0]]).reshape(1, 2, 1, 2)  # G = (5 2 / 2 1) / 2
    teacher = torch.eye(2).reshape(1, 2, 2, 1)  # G = (1 0 / 0 1) / 2
    torch.testing.assert_close(gram(student, teacher), torch.tensor((16 + 4 + 4 + 0) / (1 + 1.0)))


def test_gram_ignores_the_order_of_places():
    features = torch.randn(2, 3, 4, 5)
    assert gram(features.flip(2).transpose(2, 3), features) < 1e-10
    tokens = features.flatten(2).mT
    torch.testing.assert_close(gram(tokens.roll(1, 2), tokens), gram(features.roll(1, 1), features))


def test_gram_takes_the_mean_over_places_so_maps_may_differ_in_size():
    features = torch.randn(2, 3, 4, 5)
    assert gram(features.repeat(1, 1, 2, 3), features) < 1e-10


def test_gram_is_one_for_a_student_of_zeros_at_any_scale():
    teacher = torch.randn(2, 3, 4, 5)
    for scale in (1e-3, 1.0, 1e4):
        torch.testing.assert_close(gram(torch.zeros_like(teacher), scale * teacher), torch.tensor(1.0))


def test_fsp_by_hand():
    student = (
        torch.tensor([[1.0, 2.0]]).reshape(1, 1, 1, 2),
        torch.tensor([[1.0, 1.0], [0.0, 3.0]]).reshape(1, 2, 1, 2),
    )
    teacher = (
        torch.tensor([[2.0, 0.0]]).reshape(1, 1, 1, 2),
        torch.tensor([[1.0, 5.0], [2.0, 1.0]]).reshape(1, 2, 1, 2),
    )
    # half of (3, 6) and half of (2, 4)
    torch.testing.assert_close(fsp(student, teacher), torch.tensor((1 + 4) / (4 + 16.0)))


def test_fsp_pools_the_larger_map_to_the_smaller():
    large, small = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 1, 2, 2), torch.full((1, 1, 1, 1), 5.0)
    four = torch.full((1, 1, 1, 1), 4.0)
    assert fsp((large, small), (four, small)) == 0
    assert fsp((small, large), (small, four)) == 0


def test_an_error_about_channels_advises_against_an_adapter():
    advice = r"gram: student \(1, 4, 8, 8\) and teacher \(1, 6, 8, 8\) must share batch and channels; an adapter would"
    with pytest.raises(ShapeError, match=advice):
        gram(torch.zeros(1, 4, 8, 8), torch.zeros(1, 6, 8, 8))
    with pytest.raises(ShapeError, match="fsp: student"):
        fsp((torch.zeros(1, 4, 8, 8),) * 2, (torch.zeros(1, 4, 8, 8), torch.zeros(1, 6, 8, 8)))


def test_flows_refuse_vectors_and_wrong_numbers_of_maps():
    with pytest.raises(
        ShapeError, match=r"gram: it needs maps \(n, c, h, w\) or tokens \(n, length, c\), got \(2, 4\)"
    ):
        gram(torch.zeros(2, 4), torch.zeros(2, 4))
    with pytest.raises(ShapeError, match="needs both from each side, got 1 of them"):
        fsp((torch.zeros(1, 4, 8, 8),), (torch.zeros(1, 4, 8, 8),) * 2)
    with pytest.raises(ShapeError, match="the two maps of one side have 7 and 9 places"):
        fsp((torch.zeros(1, 7, 4), torch.zeros(1, 9, 4)), (torch.zeros(1, 7, 4), torch.zeros(1, 9, 4)))
