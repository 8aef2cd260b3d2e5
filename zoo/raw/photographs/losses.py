"""A loss that leaves out the border, where a demosaiced crop is worse for want of neighbours."""

from jaxtyping import Float
from torch import Tensor

from compresskit.errors import ShapeError
from compresskit.losses.features import mse


def mse_inside(
    student: Float[Tensor, "n c h w"], target: Float[Tensor, "nt ct ht wt"], *, border: int = 16
) -> Float[Tensor, ""]:
    """Mean squared difference over all pixels but those near the border.

    Near a crop's border even the best linear filter is some dB worse, since half of its window is missing. Squared,
    that error is most of the loss of a small crop, and a network learns to mend what whole frames hardly have.

    Args:
        student: A picture.
        target: A picture of the same size.
        border: Width of the rim that is left out, in pixels.

    Raises:
        ShapeError: The sizes differ, or the border leaves nothing.
    """
    height, width = student.shape[-2:]
    if 2 * border >= min(height, width):
        raise ShapeError(f"mse_inside: a border of {border} pixels leaves nothing of {height}x{width}")
    inside = (..., slice(border, height - border), slice(border, width - border))
    return mse(student[inside], target[inside])
