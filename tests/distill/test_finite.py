"""The check of gradients in every step."""

import pytest
import torch

from compresskit.distill.training.loop import _all_finite

NAN, INF = float("nan"), float("inf")


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
def test_gradients_are_finite_or_a_norm_has_to_tell(gradients, certain):
    assert _all_finite(gradients) is certain


def test_the_gradients_stay_as_they_are():
    gradient = torch.randn(100)
    before = gradient.clone()
    _all_finite([gradient])
    assert torch.equal(gradient, before)
