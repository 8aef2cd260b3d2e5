import math

import pytest
import torch
from torch.nn import functional as F

from compresskit.errors import RecipeError, ShapeError
from compresskit.losses import cross_entropy, dist, kl, standardized_kl
from compresskit.losses.checks import at_least_float32


def test_kl_is_forward_kl_times_the_squared_temperature_by_hand():
    teacher = torch.tensor([[math.log(3.0), 0.0]]) * 2  # at T = 2: 3/4, 1/4
    student = torch.tensor([[0.0, 0.0]])  # 1/2, 1/2
    expected = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    torch.testing.assert_close(kl(student, teacher, temperature=2.0), torch.tensor(expected))


def test_kl_is_zero_for_equal_logits_and_positive_for_others():
    logits = torch.randn(5, 7)
    assert kl(logits, logits).abs() < 1e-7
    assert kl(logits, logits + 3).abs() < 1e-6  # a shift is the same distribution
    assert kl(logits, torch.randn(5, 7)) > 0.01


def test_kl_averages_over_pixels_whatever_their_number_or_the_number_of_classes():
    student, teacher = torch.randn(2, 2, 5)
    one = kl(student, teacher)
    maps = kl(student[..., None, None].expand(2, 5, 6, 3), teacher[..., None, None].expand(2, 5, 6, 3))
    torch.testing.assert_close(maps, one)
    absent = torch.full((2, 95), -100.0)  # classes without a share change nothing
    torch.testing.assert_close(kl(torch.cat([student, absent], 1), torch.cat([teacher, absent], 1)), one)


def test_kl_of_tokens_takes_the_last_dimension():
    student, teacher = torch.randn(2, 3, 4, 9)
    torch.testing.assert_close(kl(student, teacher, dim=-1), kl(student, teacher))
    torch.testing.assert_close(kl(student.mT, teacher.mT, dim=1), kl(student, teacher))


LOSSES_ON_LOGITS = [kl, standardized_kl, dist]


@pytest.mark.parametrize("loss", LOSSES_ON_LOGITS)
def test_classes_are_last_in_tokens_and_second_in_maps(loss):
    student, teacher = torch.randn(2, 12, 9)
    rows = loss(student, teacher)
    tokens = [side.reshape(3, 4, 9) for side in (student, teacher)]
    maps = [side.reshape(3, 2, 2, 9).movedim(3, 1) for side in (student, teacher)]
    volumes = [side.reshape(3, 1, 2, 2, 9).movedim(4, 1) for side in (student, teacher)]
    torch.testing.assert_close(loss(*tokens), rows)
    torch.testing.assert_close(loss(*maps), rows)
    torch.testing.assert_close(loss(*(side.mT for side in tokens), dim=1), rows)
    torch.testing.assert_close(loss(*volumes, dim=1), rows)


@pytest.mark.parametrize("loss", LOSSES_ON_LOGITS)
def test_logits_that_differ_by_a_constant_for_each_token_are_the_same_distributions(loss):
    teacher = torch.randn(2, 5, 7)
    assert loss(teacher + torch.randn(2, 5, 1), teacher).abs() < 1e-6


@pytest.mark.parametrize("shape", [(2, 3, 4, 5, 6), (2, 3, 4, 5, 6, 7)])
def test_where_the_classes_are_not_known_the_message_says_what_to_write(shape):
    for loss in LOSSES_ON_LOGITS:
        with pytest.raises(ShapeError, match=r"classes may be in any dimension; write it, as dim=1 or dim=-1"):
            loss(torch.zeros(shape), torch.zeros(shape))
    with pytest.raises(ShapeError, match="dim=1"):
        cross_entropy(torch.zeros(shape), torch.zeros(shape[:1] + shape[2:], dtype=torch.long))


def test_cross_entropy_of_tokens_by_hand():
    logits = torch.tensor([[[math.log(3.0), 0.0], [0.0, 0.0], [0.0, 0.0]]])  # one sequence of three tokens
    labels = torch.tensor([[0, 1, -100]])
    torch.testing.assert_close(cross_entropy(logits, labels), torch.tensor((math.log(4 / 3) + math.log(2)) / 2))
    own_index = torch.tensor([[0, 9, 1]])
    torch.testing.assert_close(cross_entropy(logits, own_index, ignore_index=9), cross_entropy(logits, labels))
    shares = F.one_hot(labels[:, :2], 2).float()
    torch.testing.assert_close(cross_entropy(logits[:, :2], shares), cross_entropy(logits, labels))
    torch.testing.assert_close(cross_entropy(logits.mT, labels, dim=1), cross_entropy(logits, labels))


def test_cross_entropy_of_no_token_is_zero_and_teaches_nothing():
    logits = torch.randn(1, 3, 4, requires_grad=True)
    loss = cross_entropy(logits, torch.full((1, 3), -100))
    loss.backward()
    assert loss == 0
    assert (logits.grad == 0).all()


def test_labels_say_where_the_classes_of_a_sequence_are():
    logits, labels = torch.randn(2, 7, 5), torch.randint(0, 5, (2, 7))
    one = cross_entropy(logits, labels)
    torch.testing.assert_close(cross_entropy(logits.mT, labels), one)
    torch.testing.assert_close(F.cross_entropy(logits.mT, labels), one)
    square = torch.randn(2, 5, 5)
    torch.testing.assert_close(cross_entropy(square, labels[:, :5]), F.cross_entropy(square.mT, labels[:, :5]))
    with pytest.raises(ShapeError, match=r"labels \(2, 6\) do not fit; the classes are dimension 2 .* write dim="):
        cross_entropy(logits, labels[:, :6])


def test_kl_of_a_masked_class_and_its_gradients_are_finite():
    student = torch.tensor([[1.0, 2.0, -torch.inf]], requires_grad=True)
    teacher = torch.tensor([[0.5, 0.0, -torch.inf]])
    loss = kl(student, teacher)
    loss.backward()
    torch.testing.assert_close(loss.detach(), kl(student.detach()[:, :2], teacher[:, :2]))
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_kl_in_half_precision_is_computed_in_single(half):
    student, teacher = (20 * torch.randn(2, 8, 1000)).to(half)
    loss = kl(student, teacher, temperature=0.1)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, kl(student.float(), teacher.float(), temperature=0.1))


def test_kl_of_double_stays_double():
    student, teacher = torch.randn(2, 3, 4, dtype=torch.float64)
    assert kl(student, teacher).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda s: kl(s, teacher, temperature=3.0), student.requires_grad_())


def test_kl_does_not_change_when_a_batch_is_split():
    student, teacher = torch.randn(2, 8, 10)
    halves = [kl(student[part], teacher[part]) for part in (slice(0, 4), slice(4, 8))]
    torch.testing.assert_close(torch.stack(halves).mean(), kl(student, teacher))


def test_kl_refuses_shapes_that_would_broadcast():
    with pytest.raises(ShapeError, match=r"kl: shapes must be equal, got \(2, 5\) and \(1, 5\)"):
        kl(torch.zeros(2, 5), torch.zeros(1, 5))
    with pytest.raises(ShapeError, match="no dimension 1"):
        kl(torch.zeros(5), torch.zeros(5))


def test_kl_refuses_a_temperature_of_zero():
    with pytest.raises(RecipeError, match="temperature must be above 0, got 0"):
        kl(torch.zeros(2, 5), torch.zeros(2, 5), temperature=0)
    with pytest.raises(RecipeError, match="standardized_kl: temperature must be above 0, got -1"):
        standardized_kl(torch.zeros(2, 5), torch.zeros(2, 5), temperature=-1.0)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_standardized_kl_by_hand(temperature):
    # (3, 0, 0) and (0, 0, 3): mean 1, standard deviation sqrt(2), so z is sqrt(2) once and -1/sqrt(2) twice
    student, teacher = torch.tensor([[0.0, 0.0, 3.0]]), torch.tensor([[3.0, 0.0, 0.0]])
    high, low = math.exp(2**0.5 / temperature), math.exp(-(0.5**0.5) / temperature)
    expected = temperature**2 * (high - low) / (high + 2 * low) * (3 / 2**0.5) / temperature
    torch.testing.assert_close(standardized_kl(student, teacher, temperature=temperature), torch.tensor(expected))


def test_standardized_kl_ignores_the_range_of_logits():
    student, teacher = torch.randn(2, 6, 9)
    torch.testing.assert_close(standardized_kl(5 * student + 3, 0.1 * teacher), standardized_kl(student, teacher))
    assert standardized_kl(7 * teacher - 1, teacher) < 1e-6


def test_standardized_kl_of_equal_logits_is_that_of_a_uniform_distribution():
    flat, teacher = torch.full((1, 3), 0.1, requires_grad=True), torch.tensor([[3.0, 0.0, 0.0]])
    loss = standardized_kl(flat, teacher)
    loss.backward()
    torch.testing.assert_close(loss.detach(), standardized_kl(torch.zeros(1, 3), teacher))
    assert (flat.grad == 0).all()


def test_cross_entropy_by_hand():
    logits = torch.tensor([[math.log(3.0), 0.0]])
    torch.testing.assert_close(cross_entropy(logits, torch.tensor([0])), torch.tensor(math.log(4 / 3)))
    torch.testing.assert_close(cross_entropy(logits, torch.tensor([1], dtype=torch.uint8)), torch.tensor(math.log(4)))


def test_cross_entropy_takes_maps_and_probabilities():
    logits, labels = torch.randn(2, 5, 4, 3), torch.randint(0, 5, (2, 4, 3))
    shares = F.one_hot(labels, 5).permute(0, 3, 1, 2).half()
    torch.testing.assert_close(cross_entropy(logits, labels), cross_entropy(logits, shares))
    torch.testing.assert_close(
        cross_entropy(logits, labels, label_smoothing=0.1), cross_entropy(logits, 0.9 * shares.float() + 0.02)
    )


def test_cross_entropy_refuses_shapes_that_do_not_fit():
    with pytest.raises(ShapeError, match=r"logits \(2, 5\) and labels \(3,\) do not fit"):
        cross_entropy(torch.zeros(2, 5), torch.zeros(3, dtype=torch.long))
    with pytest.raises(ShapeError, match=r"probabilities \(2, 4\)"):
        cross_entropy(torch.zeros(2, 5), torch.zeros(2, 4))
    with pytest.raises(RecipeError, match="label_smoothing must be from 0 to 1, got 2"):
        cross_entropy(torch.zeros(2, 5), torch.zeros(2, dtype=torch.long), label_smoothing=2)


def test_cross_entropy_refuses_a_label_outside_the_classes():
    with pytest.raises(ShapeError, match="cross_entropy: a label is none of the 5 classes: Target 7 is out of bounds"):
        cross_entropy(torch.zeros(2, 5), torch.tensor([1, 7]))


def test_a_teacher_of_nan_gives_nan():
    logits = torch.zeros(2, 3)
    assert kl(logits, logits + torch.tensor([0.0, float("nan"), 0.0])).isnan()
    assert kl(logits, torch.tensor([[0.0, 0.0, float("-inf")]]).expand(2, 3)).isfinite()


def test_complex_tensors_are_refused():
    with pytest.raises(ShapeError, match="complex"):
        at_least_float32(torch.zeros(2, 3, dtype=torch.complex64))
