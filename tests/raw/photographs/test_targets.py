import pytest
import torch

from compresskit.errors import RecipeError, ShapeError
from zoo.raw import Reduced


def test_a_reduced_picture_holds_the_means_of_squares():
    picture = torch.arange(16.0).view(1, 1, 4, 4)
    assert Reduced(factor=2)(picture).tolist() == [[[[2.5, 4.5], [10.5, 12.5]]]]
    assert Reduced(factor=1)(picture).equal(picture)


def test_a_size_or_factor_that_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match="4x6 pixels cannot be reduced by 4"):
        Reduced(factor=4)(torch.rand(1, 3, 4, 6))
    with pytest.raises(RecipeError, match="factor must be a whole number of at least 1, got 0"):
        Reduced(factor=0)
