"""Gram matrices: inner products of channels over all places, of one map with itself or with another."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from compresskit.errors import ShapeError
from compresskit.losses.checks import at_least_float32, channel_axis
from compresskit.losses.features import relative_mse
from compresskit.losses.vectors import inner_products


def gram(student: Float[Tensor, "bs ..."], teacher: Float[Tensor, "bt ..."]) -> Float[Tensor, ""]:
    """Compute the relative squared distance between the Gram matrices of two maps.

    A sample's matrix is G = F F^T / places for its map F of (channels, places). The loss is the mean of
    (G_student - G_teacher)^2 over samples and entries, over the mean of G_teacher^2. The divisor is the only difference
    from the paper's sum of squares, which grows with the fourth power of the activations.

    Args:
        student: Map (n, c, h, w), volume, or tokens (n, length, c).
        teacher: Features of the same batch and channels; height and width, or length, may differ.

    Returns:
        Scalar, >= 0: 0 for equal matrices, 1 for a student of zeros.

    Raises:
        ShapeError: Batch or channels differ, or the features are vectors.

    Reference:
        Gatys, Ecker & Bethge, *Image Style Transfer Using Convolutional Neural Networks*, CVPR 2016, section 2.2.
        https://doi.org/10.1109/CVPR.2016.265
    """
    return _distance((student, student), (teacher, teacher), loss="gram")


def fsp(student: Sequence[Float[Tensor, "bs ..."]], teacher: Sequence[Float[Tensor, "bt ..."]]) -> Float[Tensor, ""]:
    """Compute the relative squared distance between the flows from an earlier to a later map.

    A sample's flow (of solution procedure, FSP) is G = A B^T / places for an earlier map A and a later map B of
    (channels, places). If the maps differ in height or width, the larger is max-pooled to the smaller. The loss is the
    mean of (G_student - G_teacher)^2 over samples and entries, over the mean of G_teacher^2; without the divisor, as in
    the paper, it would grow with the fourth power of the activations.

    Args:
        student: An earlier and a later map (n, c, h, w), or tokens (n, length, c) of one length.
        teacher: Two such maps of the same batch; each has the channels of the student's.

    Returns:
        Scalar, >= 0: 0 for equal flows, 1 for a student of zeros.

    Raises:
        ShapeError: A side does not have two maps, or batch or channels differ.

    Reference:
        Yim, Joo, Bae & Kim, *A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and Transfer
        Learning*, CVPR 2017, section 3.2. https://doi.org/10.1109/CVPR.2017.754
    """
    return _distance(_two(student), _two(teacher), loss="fsp")


def _distance(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], *, loss: str) -> Float[Tensor, ""]:
    for one, other in zip(student, teacher, strict=True):
        if _samples_and_channels(one, loss) != _samples_and_channels(other, loss):
            raise ShapeError(
                f"{loss}: student {tuple(one.shape)} and teacher {tuple(other.shape)} must share batch and channels; "
                "an adapter would learn the match in the student's place, so tap layers of equal width, or use "
                "attention_transfer or similarity_preserving"
            )
    return relative_mse(_flow(*student, loss), _flow(*teacher, loss))


def _flow(one: Tensor, other: Tensor, loss: str) -> Float[Tensor, "b c1 c2"]:
    one, other = at_least_float32(one), at_least_float32(other)
    if one.ndim == other.ndim == 4 and one.shape[2:] != other.shape[2:]:
        size = [min(sides) for sides in zip(one.shape[2:], other.shape[2:], strict=True)]
        one, other = F.adaptive_max_pool2d(one, size), F.adaptive_max_pool2d(other, size)
    one, other = _by_place(one), _by_place(other)
    if one.shape[2] != other.shape[2]:
        raise ShapeError(f"{loss}: the two maps of one side have {one.shape[2]} and {other.shape[2]} places")
    return inner_products(one, other) / one.shape[2]


def _by_place(features: Float[Tensor, "b ..."]) -> Float[Tensor, "b c places"]:
    return features.movedim(channel_axis(features), 1).flatten(2)


def _samples_and_channels(features: Tensor, loss: str) -> tuple[int, int]:
    if features.ndim < 3:
        raise ShapeError(f"{loss}: it needs maps (n, c, h, w) or tokens (n, length, c), got {tuple(features.shape)}")
    return features.shape[0], features.shape[channel_axis(features)]


def _two(maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    if isinstance(maps, Tensor) or len(maps) != 2:
        count = "one tensor" if isinstance(maps, Tensor) else f"{len(maps)} of them"
        raise ShapeError(f"fsp: it compares the flow between two maps and needs both from each side, got {count}")
    return maps[0], maps[1]
