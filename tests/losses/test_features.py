import pytest
import torch

from compresskit.errors import RecipeError, ShapeError
from compresskit.losses import attention_transfer, cosine, l1, mse, relative_mse


def test_mse_and_l1_by_hand():
    student, teacher = torch.tensor([1.0, 2.0]), torch.tensor([4.0, 1.0])
    assert mse(student, teacher) == 5.0  # (9 + 1) / 2
    assert l1(student, teacher) == 2.0  # (3 + 1) / 2


@pytest.mark.parametrize("loss", [mse, l1])
def test_a_pointwise_loss_never_broadcasts(loss):
    with pytest.raises(
        ShapeError, match=rf"{loss.__name__}: shapes must be equal, got \(2, 1, 4, 4\) and \(2, 8, 4, 4\)"
    ):
        loss(torch.zeros(2, 1, 4, 4), torch.zeros(2, 8, 4, 4))


@pytest.mark.parametrize("loss", [mse, l1])
def test_a_pointwise_loss_of_half_precision_does_not_overflow(loss):
    far = torch.full((4,), 60000.0, dtype=torch.float16)
    value = loss(-far, far)
    assert value.dtype == torch.float32
    assert value.isfinite()


def test_mse_takes_integer_targets():
    assert mse(torch.tensor([0.5]), torch.tensor([1])) == 0.25


def test_relative_mse_by_hand():
    student, teacher = torch.tensor([1.0, 0.0]), torch.tensor([3.0, 4.0])  # (4 + 16) / 25
    torch.testing.assert_close(relative_mse(student, teacher), torch.tensor(0.8))


def test_relative_mse_is_one_for_a_student_of_zeros_and_finite_for_a_teacher_of_zeros():
    teacher = torch.randn(2, 3, 4, 4)
    for scale in (1e-4, 1.0, 1e4):
        torch.testing.assert_close(relative_mse(torch.zeros_like(teacher), scale * teacher), torch.tensor(1.0))
    assert relative_mse(torch.zeros(4), torch.zeros(4)) == 0
    assert relative_mse(torch.full((4,), 3.0), torch.zeros(4)) == 9  # nothing to be relative to


def test_relative_mse_refuses_other_shapes():
    with pytest.raises(ShapeError, match="relative_mse: shapes must be equal"):
        relative_mse(torch.zeros(2, 1), torch.zeros(2, 8))


def test_cosine_by_hand():
    student = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    teacher = torch.tensor([[4.0, 3.0], [-2.0, 0.0]])  # cosines 24/25 and -1
    expected = torch.tensor((1 / 25 + 2) / 2)
    torch.testing.assert_close(cosine(student, 7 * teacher), expected)
    torch.testing.assert_close(cosine(student[None], teacher[None]), expected)  # tokens
    as_maps = (side.mT.reshape(1, 2, 1, 2) for side in (student, teacher))
    torch.testing.assert_close(cosine(*as_maps), expected)


def test_cosine_of_a_dead_vector_is_a_half_and_has_no_gradient():
    student = torch.zeros(1, 3, requires_grad=True)
    loss = cosine(student, torch.ones(1, 3))
    loss.backward()
    torch.testing.assert_close(loss.detach(), torch.tensor(0.5))
    assert (student.grad == 0).all()


def test_cosine_needs_vectors():
    with pytest.raises(ShapeError, match=r"cosine: it needs vectors \(n, c\), tokens or maps, got \(3,\)"):
        cosine(torch.zeros(3), torch.zeros(3))


def test_attention_transfer_matches_the_paper_on_a_hand_case():
    student = torch.tensor([[[[3.0, 4.0]]]])  # attention (9, 16) -> / sqrt(337)
    teacher = torch.tensor([[[[1.0, 0.0]]]])  # attention (1, 0)
    norm = 337**0.5
    expected = ((9 / norm - 1) ** 2 + (16 / norm) ** 2) / 2
    torch.testing.assert_close(attention_transfer(student, teacher), torch.tensor(expected))


def test_attention_transfer_ignores_scale_and_channel_count():
    features = torch.randn(2, 3, 5, 4)
    louder = 7 * features.repeat(1, 2, 1, 1)
    assert attention_transfer(features, louder) < 1e-12
    assert attention_transfer(features, torch.randn(2, 6, 5, 4)) > 1e-4


def test_attention_transfer_of_tokens_equals_that_of_their_map():
    student, teacher = torch.randn(2, 3, 4, 5), torch.randn(2, 6, 4, 5)
    tokens = attention_transfer(student.flatten(2).mT, teacher.flatten(2).mT)
    torch.testing.assert_close(tokens, attention_transfer(student, teacher))


def test_attention_transfer_of_dead_maps_has_finite_gradients():
    student = torch.zeros(1, 2, 3, 3, requires_grad=True)
    attention_transfer(student, torch.randn(1, 4, 3, 3)).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_attention_transfer_refuses_other_batches_and_sizes():
    with pytest.raises(ShapeError, match=r"student \(1, 4, 8, 8\) and teacher \(1, 4, 4, 4\) must share batch, height"):
        attention_transfer(torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 4, 4))
    with pytest.raises(ShapeError, match=r"student \(2, 4\) and teacher \(2, 4\) must share"):
        attention_transfer(torch.zeros(2, 4), torch.zeros(2, 4))
    with pytest.raises(RecipeError, match=r"power must be at least 1, got 0\.5"):
        attention_transfer(torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 8, 8), power=0.5)
