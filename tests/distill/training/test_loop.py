"""The training step: accumulation, clipping, gradient norms, and losses or gradients that are not finite."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compresskit import Match, ProgressiveDistiller, Stage, Task
from compresskit.distill.training.gradients import all_finite
from compresskit.errors import TrainingError

NAN, INF = float("nan"), float("inf")


def test_accumulating_a_whole_epoch_equals_one_big_batch_even_with_a_smaller_last_batch(batches, sgd_with_momentum):
    torch.manual_seed(0)
    small = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    big = copy.deepcopy(small)
    stage = Stage("all", tasks=[Task("cross_entropy")], steps=3, accumulate=3, optimizer=sgd_with_momentum)
    ProgressiveDistiller(None, small, [stage]).fit(batches)
    first = tuple(torch.cat(parts) for parts in zip(*batches[:3], strict=True))
    plain = Stage("all", tasks=[Task("cross_entropy")], steps=3, optimizer=sgd_with_momentum)
    ProgressiveDistiller(None, big, [plain]).fit([first, batches[3]])  # three of 6, then the epoch's last, then again
    torch.testing.assert_close(small[1].weight, big[1].weight)


def test_clip_bounds_the_gradient_over_everything_that_trains(teacher, student, batches, state):
    optimizer = {"_target_": "torch.optim.SGD", "lr": 1.0}
    before = state(student)
    stage = Stage("s", tasks=[Task("cross_entropy", weight=100.0)], steps=1, clip=0.5, optimizer=optimizer)
    ProgressiveDistiller(teacher, student, [stage]).fit(batches)
    distance = sum((p.detach() - before[n]).square().sum() for n, p in student.named_parameters()) ** 0.5
    assert distance.item() == pytest.approx(0.5, rel=1e-4)


def test_gradient_norms_are_those_of_each_term_alone(vector_student, vector_batches):
    by_hand = copy.deepcopy(vector_student)
    stage = Stage("s", tasks=[Task("mse", weight=3.0), Task("l1")], steps=3, gradient_norms=2)
    history = ProgressiveDistiller(None, vector_student, [stage]).fit(vector_batches).history
    inputs, targets = vector_batches[0]
    for name, loss in (("mse(., target)", F.mse_loss), ("l1(., target)", F.l1_loss)):
        gradients = torch.autograd.grad(loss(by_hand(inputs), targets), list(by_hand.parameters()))
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm().item()
        assert history[0]["terms"][name]["gradient_norm"] == pytest.approx(norm, rel=1e-5)
    assert ["gradient_norm" in record["terms"]["l1(., target)"] for record in history] == [True, False, True]


def test_a_loss_that_becomes_nan_names_term_stage_and_step_and_keeps_the_weights(teacher, student, batches):
    calls = []  # the first is the look-ahead's

    def breaks(student_map, teacher_map):
        calls.append(1)
        return (student_map - teacher_map).sum() * (float("nan") if len(calls) > 3 else 1.0)

    stage = Stage("hint", matches=[Match("8", loss=breaks)], steps=9)
    with pytest.raises(TrainingError, match=r"stage 'hint', step 2: the term breaks\(8\) is nan"):
        ProgressiveDistiller(teacher, student, [stage]).fit(batches)
    assert all(p.isfinite().all() for p in student.parameters())


@pytest.mark.parametrize(
    ("gradients", "certain"),
    [
        ([], True),
        ([torch.tensor([1.0, -2.0]), torch.tensor([[1e30]])], True),
        ([torch.tensor([1.0]), torch.tensor([1.0, NAN])], False),
        ([torch.tensor([-INF], dtype=torch.float64)], False),
        ([torch.tensor([INF], dtype=torch.bfloat16), torch.tensor([1.0])], False),
        ([torch.ones(2, dtype=torch.complex64)], False),
        ([torch.ones(2).to_sparse()], False),
    ],
)
def test_gradients_are_certainly_finite_or_need_a_norm(gradients, certain):
    assert all_finite(gradients) is certain


def test_the_check_for_finite_gradients_does_not_change_them():
    gradient = torch.randn(100)
    before = gradient.clone()
    all_finite([gradient])
    assert torch.equal(gradient, before)
