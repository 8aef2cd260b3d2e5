"""Views: functions from a batch's inputs to one model's inputs.

A view is any such callable; these are the common ones. A teacher may have been trained at another size or with another
normalisation, or a batch may hold one image in two versions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from compresskit.errors import DataError, RecipeError


@dataclass(frozen=True)
class Part:
    """One part of the inputs: `Part("large")` of a mapping, `Part(1)` of a tuple.

    Raises:
        DataError: Called on inputs that have no such part.
    """

    key: str | int

    def __call__(self, inputs: Any) -> Any:
        """Return the part."""
        try:
            return inputs[self.key]
        except (KeyError, IndexError, TypeError):
            kind = f"keys {', '.join(map(str, inputs))}" if isinstance(inputs, Mapping) else type(inputs).__name__
            raise DataError(f"Part({self.key!r}): the inputs have no such part, but {kind}") from None


@dataclass(frozen=True)
class Resized:
    """Images at another size: by area averaging if they shrink, else bilinearly."""

    size: int | Sequence[int]
    """Height and width in pixels, or one number for both."""

    def __post_init__(self) -> None:
        sides = [self.size] if isinstance(self.size, int) else self.size
        if not isinstance(sides, list | tuple) or not 0 < len(sides) < 3 or not all(map(_is_side, sides)):
            raise RecipeError(f"Resized: size is one whole number of pixels or two, got {self.size!r}")

    def __call__(self, images: Tensor) -> Tensor:
        """Resize images (n, c, h, w)."""
        size = [self.size, self.size] if isinstance(self.size, int) else list(self.size)
        shrinks = all(want <= have for want, have in zip(size, images.shape[2:], strict=True))
        return F.interpolate(images, size=size, mode="area" if shrinks else "bilinear")


def _is_side(side: Any) -> bool:
    return isinstance(side, int) and not isinstance(side, bool) and side > 0


@dataclass(frozen=True)
class Renormalized:
    """Images normalised in another way, channel by channel: `(x * old_std + old_mean - mean) / std`."""

    mean: Sequence[float]
    """The mean of each channel that the model expects to be subtracted."""
    std: Sequence[float]
    """The deviation of each channel that it expects the images to be divided by."""
    old_mean: Sequence[float] | None = None
    """The mean that was subtracted from the batch's images; None if none was."""
    old_std: Sequence[float] | None = None
    """The deviation that they were divided by; None if they were not."""

    def __call__(self, images: Tensor) -> Tensor:
        """Normalise images (n, c, h, w) for the model.

        Raises:
            DataError: The images have another number of channels.
        """
        count = len(self.mean)
        if images.dim() < 3 or images.shape[-3] != count:
            raise DataError(f"Renormalized: {count} channels expected, got images {tuple(images.shape)}")
        mean, std, old_mean, old_std = (
            torch.tensor(values, dtype=images.dtype, device=images.device)[:, None, None]
            for values in (self.mean, self.std, self.old_mean or [0.0] * count, self.old_std or [1.0] * count)
        )
        return (images * old_std + old_mean - mean) / std
