"""Reports of `profile` and `compare` as a whole."""

import pytest
import torch
from torch import nn

from compresskit import compare, profile
from compresskit.errors import DataError, ShapeError


def test_a_model_with_weights_and_no_mac_is_warned_about():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, x):
            return x * self.weight

    assert profile(Odd(), torch.rand(3)).warnings == ("no MAC was counted, and the model has weights",)


def test_a_comparison_names_the_model_that_fails():
    with pytest.raises(ShapeError, match=r"^wide: Linear takes 3 features, got 2"):
        compare({"narrow": nn.Linear(2, 2), "wide": nn.Linear(3, 2)}, torch.rand(2))
    with pytest.raises(DataError, match="no models"):
        compare({}, torch.rand(2))
