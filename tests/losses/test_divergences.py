import math

import pytest
import torch

from compresskit.errors import RecipeError, ShapeError
from compresskit.losses import jsd, kl, reverse_kl, skew_kl, standardized_kl, topk_kl
from compresskit.losses import logits as in_pieces

STUDENT = torch.tensor([[0.0, 0.0]])  # 1/2, 1/2
TEACHER = torch.tensor([[math.log(3.0), 0.0]])  # 3/4, 1/4
OTHERS = [reverse_kl, jsd, skew_kl, topk_kl]


def divergence(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_reverse_kl_by_hand():
    expected = divergence((0.5, 0.5), (0.75, 0.25))
    torch.testing.assert_close(reverse_kl(STUDENT, TEACHER), torch.tensor(expected))
    torch.testing.assert_close(reverse_kl(2 * STUDENT, 2 * TEACHER, temperature=2.0), torch.tensor(4 * expected))
    torch.testing.assert_close(reverse_kl(STUDENT, TEACHER), kl(TEACHER, STUDENT))


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.8])
def test_jsd_by_hand(beta):
    mixture = (beta * 0.75 + (1 - beta) * 0.5, beta * 0.25 + (1 - beta) * 0.5)
    expected = beta * divergence((0.75, 0.25), mixture) + (1 - beta) * divergence((0.5, 0.5), mixture)
    torch.testing.assert_close(jsd(STUDENT, TEACHER, beta=beta), torch.tensor(expected))


def test_jsd_lies_between_forward_and_reverse_kl():
    student, teacher = torch.randn(2, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(jsd(student, teacher), jsd(teacher, student))
    torch.testing.assert_close(jsd(student, teacher, beta=1e-6) / 1e-6, kl(student, teacher), rtol=1e-4, atol=0)
    nearly = jsd(student, teacher, beta=1 - 1e-6) / 1e-6
    torch.testing.assert_close(nearly, reverse_kl(student, teacher), rtol=1e-4, atol=0)


def test_skew_kl_by_hand():
    mixture = (0.2 * 0.75 + 0.8 * 0.5, 0.2 * 0.25 + 0.8 * 0.5)
    expected = divergence((0.75, 0.25), mixture)
    torch.testing.assert_close(skew_kl(STUDENT, TEACHER, alpha=0.2), torch.tensor(expected))
    mixture = (0.2 * 0.5 + 0.8 * 0.75, 0.2 * 0.5 + 0.8 * 0.25)
    expected = divergence((0.5, 0.5), mixture)
    torch.testing.assert_close(skew_kl(STUDENT, TEACHER, alpha=0.2, reverse=True), torch.tensor(expected))
    torch.testing.assert_close(skew_kl(STUDENT, TEACHER, alpha=0), kl(STUDENT, TEACHER))
    torch.testing.assert_close(skew_kl(STUDENT, TEACHER, alpha=0, reverse=True), reverse_kl(STUDENT, TEACHER))


def test_topk_kl_by_hand():
    teacher = torch.tensor([[0.0, math.log(3.0), math.log(6.0), -1.0]])  # the best two: 1/3, 2/3 of classes 1 and 2
    student = torch.zeros(1, 4)
    expected = (math.log(4 / 3) + 2 * math.log(8 / 3)) / 3
    torch.testing.assert_close(topk_kl(student, teacher, k=2), torch.tensor(expected))
    sparse = teacher[:, 1:3], torch.tensor([[1, 2]])
    torch.testing.assert_close(topk_kl(student, sparse), torch.tensor(expected))
    logs = sparse[0].log_softmax(1) - 0.3, sparse[1].int()  # log probabilities of a whole teacher serve as well
    torch.testing.assert_close(topk_kl(student, logs), torch.tensor(expected))


def test_topk_kl_of_all_classes_is_kl_and_a_sparse_teacher_is_a_dense_one():
    student, teacher = torch.randn(2, 3, 4, 9)
    torch.testing.assert_close(topk_kl(student, teacher, temperature=2.0), kl(student, teacher, temperature=2.0))
    torch.testing.assert_close(topk_kl(student, teacher, k=9), kl(student, teacher))
    best = teacher.topk(5, dim=-1)
    torch.testing.assert_close(topk_kl(student, (best.values, best.indices)), topk_kl(student, teacher, k=5))
    torch.testing.assert_close(topk_kl(student, (best.values, best.indices), k=3), topk_kl(student, teacher, k=3))
    maps = (student[0].T.reshape(1, 9, 2, 2), teacher[0].T.reshape(1, 9, 2, 2))
    torch.testing.assert_close(topk_kl(*maps, k=3), topk_kl(student[:1], teacher[:1], k=3))


@pytest.mark.parametrize("loss", OTHERS)
def test_classes_are_last_in_tokens_and_second_in_maps(loss):
    student, teacher = torch.randn(2, 3, 4, 9)
    rows = loss(student.flatten(0, 1), teacher.flatten(0, 1))
    torch.testing.assert_close(loss(student, teacher), rows)
    torch.testing.assert_close(loss(student.mT, teacher.mT, dim=1), rows)
    torch.testing.assert_close(loss(student.movedim(2, 1)[..., None], teacher.movedim(2, 1)[..., None]), rows)


@pytest.mark.parametrize("loss", OTHERS)
def test_a_class_at_minus_infinity_on_both_sides_changes_nothing(loss):
    student, teacher = torch.randn(2, 3, 4)
    absent = torch.full((3, 1), -torch.inf)
    longer = torch.cat([student, absent], 1).requires_grad_()
    value = loss(longer, torch.cat([teacher, absent], 1))
    value.backward()
    torch.testing.assert_close(value.detach(), loss(student, teacher))
    assert longer.grad is not None
    assert longer.grad.isfinite().all()


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [
        (jsd, {"beta": 0}, "jsd: beta must be between 0 and 1, got 0; at the ends use kl and reverse_kl"),
        (jsd, {"beta": 1.0}, "got 1.0"),
        (skew_kl, {"alpha": 1}, "skew_kl: alpha must be from 0 to below 1, got 1"),
        (topk_kl, {"k": 0}, "topk_kl: k must be at least 1, got 0"),
        (reverse_kl, {"temperature": 0}, "reverse_kl: temperature must be above 0, got 0"),
    ],
)
def test_options_outside_their_limits_are_refused(loss, options, message):
    with pytest.raises(RecipeError, match=message):
        loss(STUDENT, TEACHER, **options)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ((torch.zeros(3, 2), torch.zeros(3, 3).long()), "a pair of values and, of the same shape"),
        ((torch.zeros(3, 2), torch.zeros(3, 2)), "whole-number indices"),
        ((torch.zeros(3, 2),), "a pair of values"),
        ((torch.zeros(4, 2), torch.zeros(4, 2).long()), r"student \(3, 5\) and values \(4, 2\) do not fit"),
        (torch.zeros(3, 2), r"shapes must be equal, got \(3, 5\) and \(3, 2\); a sparse teacher is a pair"),
    ],
)
def test_a_sparse_teacher_that_does_not_fit_is_refused(teacher, message):
    with pytest.raises(ShapeError, match=message):
        topk_kl(torch.zeros(3, 5), teacher)


@pytest.mark.parametrize("loss", [kl, standardized_kl, reverse_kl, jsd, skew_kl])
def test_many_logits_give_the_same_value_and_gradient_in_pieces(loss, monkeypatch):
    student, teacher = torch.randn(2, 7, 3, 11)
    whole, pieces = student.clone().requires_grad_(), student.clone().requires_grad_()
    expected = loss(whole, teacher, temperature=2.0)
    (3 * expected).backward()
    monkeypatch.setattr(in_pieces, "_MANY", 1)
    monkeypatch.setattr(in_pieces, "_PIECE", 40)  # three rows, and one is left over
    value = loss(pieces, teacher, temperature=2.0)
    (3 * value).backward()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(pieces.grad, whole.grad)
    with torch.no_grad():
        torch.testing.assert_close(loss(student, teacher, temperature=2.0), expected)


def test_logits_in_pieces_may_give_their_memory_to_the_gradient_and_never_another_tensor_s(monkeypatch):
    weight, inputs, teacher = torch.randn(4, 11, requires_grad=True), torch.randn(5, 4), torch.randn(5, 11)
    (expected,) = torch.autograd.grad(kl(inputs @ weight, teacher), weight)
    monkeypatch.setattr(in_pieces, "_MANY", 1)

    value = kl(inputs @ weight, teacher)  # nothing else holds the logits
    (first,) = torch.autograd.grad(value, weight, retain_graph=True)
    (second,) = torch.autograd.grad(2 * value, weight)
    torch.testing.assert_close(first, expected)
    torch.testing.assert_close(second, 2 * expected)

    logits = inputs @ weight
    before, value = logits.detach().clone(), kl(logits, teacher)
    (held,) = torch.autograd.grad(value, weight)
    torch.testing.assert_close(held, expected)
    assert torch.equal(logits, before)

    logits = inputs @ weight
    value, square = kl(logits, teacher), logits.square().sum()  # whose graph holds them
    del logits
    torch.autograd.grad(value, weight, retain_graph=True)
    (of_square,) = torch.autograd.grad(square, weight)
    torch.testing.assert_close(of_square, inputs.T @ (2 * before))
