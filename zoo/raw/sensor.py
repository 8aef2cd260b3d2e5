"""What a sensor adds to a mosaic: shot and read noise, a black level, and a whole number of digital steps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from compresskit.errors import RecipeError

READ_SLOPE, READ_OFFSET, READ_SPREAD = 2.18, 1.20, 0.26
"""Line, and standard deviation about it, of log read noise over log shot noise (Brooks et al. 2019)."""


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """Noise and quantisation of a mosaic whose values run from 0, black, to 1, white.

    The noise is Gaussian with variance `shot * value + read`. Then the value is put between the black and the white
    level, rounded to a digital number, and scaled back. It saturates at 1; below black it keeps its noise, down to
    digital zero.

    Raises:
        RecipeError: A variance is negative, a range is not (low, high), or the levels do not fit the bits.

    Reference:
        Brooks et al., *Unprocessing Images for Learned Raw Denoising*, CVPR 2019. https://arxiv.org/abs/1811.11127
    """

    shot: float | Sequence[float] = 0.0
    """Variance at white, of values from 0 to 1. A range is drawn from anew for each sample, evenly in its logarithm."""
    read: float | None = 0.0
    """Variance at black. None follows `shot` as it does in phone cameras; sensors of the paper span 1e-4 to 1.2e-2."""
    black: int = 64
    """Digital number of no light."""
    white: int = 1023
    """Digital number where the sensor saturates."""
    bits: int = 10
    """Digital numbers run from 0 to 2 ** bits - 1."""

    def __post_init__(self) -> None:
        low, high = self._range
        if not 0 <= low <= high or (low == 0 < high and low != high):
            raise RecipeError(
                f"shot must be a variance of at least 0 or a range (low, high) above 0, got {self.shot!r}"
            )
        if self.read is not None and self.read < 0:
            raise RecipeError(f"read must be a variance of at least 0, or none, got {self.read!r}")
        if self.read is None and low == 0:
            raise RecipeError("read: none follows shot, which must then be above 0")
        if not 0 <= self.black < self.white < 2**self.bits:
            raise RecipeError(
                f"black must be below white, white below 2 ** bits; got {self.black}, {self.white} and {self.bits} bits"
            )

    @property
    def _range(self) -> tuple[float, float]:
        if isinstance(self.shot, int | float):
            return self.shot, self.shot
        if len(self.shot) != 2:
            raise RecipeError(f"shot must be a variance or a range (low, high), got {self.shot!r}")
        low, high = self.shot
        return low, high

    def __call__(self, mosaic: Float[Tensor, "*shape"], generator: np.random.Generator) -> Float[Tensor, "*shape"]:
        """The mosaic as sensed: same shape and scale. All that is random comes from the generator."""
        shot, read = self._draw(generator)
        noise = torch.from_numpy(generator.standard_normal(tuple(mosaic.shape), dtype=np.float32)).to(mosaic)
        sensed = mosaic + noise * (shot * mosaic + read).clamp(min=0).sqrt()
        span = self.white - self.black
        digital = (self.black + sensed * span).round().clamp(0, self.white)
        return (digital - self.black) / span

    def _draw(self, generator: np.random.Generator) -> tuple[float, float]:
        low, high = self._range
        shot = low if low == high else float(np.exp(generator.uniform(np.log(low), np.log(high))))
        if self.read is not None:
            return shot, self.read
        mean = READ_SLOPE * np.log(shot) + READ_OFFSET
        return shot, float(np.exp(generator.normal(mean, READ_SPREAD)))
