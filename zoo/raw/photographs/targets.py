"""Reduced pictures as the target of a supervised term: `Task("l1", target=Reduced(factor=8))`."""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from compresskit.errors import RecipeError, ShapeError


@dataclass(frozen=True, kw_only=True)
class Reduced:
    """A smaller picture, each of whose pixels is the mean of a square of the target's.

    PyNET learns level by level, coarse first, and its level k is compared with the picture reduced by 2 ** k.

    Raises:
        RecipeError: `factor` is below 1.
    """

    factor: int
    """Side of the square in pixels."""

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise RecipeError(f"factor must be a whole number of at least 1, got {self.factor!r}")

    def __call__(self, target: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
        """Return the reduced pictures.

        Raises:
            ShapeError: `factor` does not divide the picture's size.
        """
        height, width = target.shape[-2:]
        if height % self.factor or width % self.factor:
            raise ShapeError(
                f"a picture of {height}x{width} pixels cannot be reduced by {self.factor}: it is no multiple"
            )
        return F.avg_pool2d(target, self.factor)
