import math

import pytest
import torch

from compresskit.errors import RecipeError, ShapeError
from compresskit.losses import Variational, mse


def test_variational_by_hand():
    student, teacher = torch.zeros(1, 2, 1, 1), torch.tensor([2.0, 6.0]).reshape(1, 2, 1, 1)
    expected = ((4 / 4 + math.log(4)) + (36 / 4 + math.log(4))) / 2 / 2
    torch.testing.assert_close(Variational(channels=2, variance=4)(student, teacher), torch.tensor(expected))


def test_a_variance_of_one_starts_at_half_the_mse():
    student, teacher = torch.randn(2, 3, 4, 5, 6)
    torch.testing.assert_close(Variational(channels=4)(student, teacher), mse(student, teacher) / 2)


def test_each_channels_variance_converges_to_its_mean_squared_error():
    error = torch.tensor([1.0, 3.0, 5.0]).expand(5, 7, 3)  # tokens: channels last
    loss = Variational(channels=3, variance=9.0)
    loss(torch.zeros_like(error), error).backward()
    falls, stays, rises = loss.before_softplus.grad
    assert falls > 0.01
    assert stays.abs() < 1e-6
    assert rises < -0.01


@pytest.mark.parametrize("variance", [1e-4, 1.0, 1e6])
def test_the_first_variance_is_the_one_in_the_options(variance):
    features = torch.zeros(1, 1)
    expected = torch.tensor(math.log(variance) / 2)
    torch.testing.assert_close(
        Variational(channels=1, variance=variance)(features, features), expected, rtol=1e-4, atol=1e-6
    )


def test_variational_refuses_other_channels_and_options_out_of_range():
    with pytest.raises(ShapeError, match=r"variational: made for 4 channels, got features of \(2, 3\)"):
        Variational(channels=4)(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(RecipeError, match="channels must be at least 1, got 0"):
        Variational(channels=0)
    with pytest.raises(RecipeError, match=r"variance must be above 0\.000010, got 0"):
        Variational(channels=1, variance=0)
