"""A loss that leaves out the border of a crop, where demosaicing lacks neighbours."""

from jaxtyping import Float
from torch import Tensor

from compresskit.errors import ShapeError
from compresskit.losses.features import mse


def mse_inside(
    student: Float[Tensor, "n c h w"], target: Float[Tensor, "nt ct ht wt"], *, border: int = 16
) -> Float[Tensor, ""]:
    """Return the mean squared difference over all pixels but those near the border.

    Near a crop's border even the best linear filter is some dB worse, since half of its window is missing. Squared,
    that error is most of the loss of a small crop, and a network learns to correct an error that whole frames hardly
    have.

    Args:
        student: Pictures.
        target: Pictures of the same size.
        border: Width of the border in pixels.

    Raises:
        ShapeError: The sizes differ, or the border leaves nothing.
    """
    height, width = student.shape[-2:]
    if 2 * border >= min(height, width):
        raise ShapeError(f"mse_inside: a border of {border} pixels leaves nothing of {height}x{width}")
    inside = (..., slice(border, height - border), slice(border, width - border))
    return mse(student[inside], target[inside])
