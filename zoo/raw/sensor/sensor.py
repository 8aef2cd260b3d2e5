"""A sensor's noise and unevenness: uneven pixels, shot and read noise, a black level, whole digital steps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from compresskit.errors import RecipeError
from zoo.raw.sensor.cfa import CFA
from zoo.raw.sensor.imperfections import apply_defects, apply_gains, crosstalk, unequal_greens

READ_SLOPE, READ_OFFSET, READ_SPREAD = 2.18, 1.20, 0.26
"""Slope and offset of the line of log read noise over log shot noise, and the spread about it (Brooks et al. 2019)."""


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """Noise, unevenness and quantisation of a mosaic whose values run from 0, black, to 1, white.

    In the order of a sensor: light leaks to neighbours (`crosstalk`), pixels differ in gain (`green_imbalance`,
    `gains`), then comes Gaussian noise with variance `shot * value + read`, an offset of each row (`rows`), and pixels
    that are stuck (`defects`). Then the value is placed between the black and the white level, rounded to a digital
    number, and scaled back. It saturates at 1; below black it keeps its noise, down to digital zero.

    All random numbers are drawn for each sample, from that sample's generator. Orders of magnitude for small pixels:
    crosstalk 0.01 to 0.05, green_imbalance 0.01, gains 0.005 to 0.02, defects 1e-4 to 1e-3.

    Raises:
        RecipeError: A variance is negative, a range is not (low, high), or the levels do not fit the bits.

    Reference:
        Brooks et al., *Unprocessing Images for Learned Raw Denoising*, CVPR 2019. https://arxiv.org/abs/1811.11127
    """

    shot: float | Sequence[float] = 0.0
    """Variance at white, of values from 0 to 1. From a range, each sample draws one evenly in its logarithm."""
    read: float | None = 0.0
    """Variance at black. None follows `shot` as it does in phone cameras; sensors of the paper span 1e-4 to 1.2e-2."""
    crosstalk: float | Sequence[float] = 0.0
    """Share of a pixel's light that its four neighbours sense. From a range (low, high), each sample draws evenly."""
    green_imbalance: float | Sequence[float] = 0.0
    """Share of their mean by which greens of red's rows are brighter than those of blue's rows; a number or a range."""
    gains: float | Sequence[Sequence[float]] = 0.0
    """Standard deviation of the gain of each place in the tile; or the gains themselves, a row for each of its rows."""
    rows: float = 0.0
    """Standard deviation of the offset of each row, of values from 0 to 1."""
    defects: float = 0.0
    """Share of the pixels that are stuck: half of them black, half white."""
    black: int = 64
    """Digital number of no light."""
    white: int = 1023
    """Digital number where the sensor saturates."""
    bits: int = 10
    """Digital numbers run from 0 to 2 ** bits - 1."""

    def __post_init__(self) -> None:
        low, high = _range(self.shot, "shot", "a variance")
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
        self._check_unevenness()

    def _check_unevenness(self) -> None:
        for name, least, most in (("crosstalk", 0, 1), ("green_imbalance", -1, 1)):
            low, high = _range(getattr(self, name), name, "a number")
            if not least <= low <= high <= most:
                raise RecipeError(
                    f"{name} must be from {least} to {most}, or a range (low, high), got {getattr(self, name)!r}"
                )
        if self.gains < 0 if isinstance(self.gains, int | float) else len({*map(len, self.gains)}) != 1:
            raise RecipeError(
                f"gains must be a deviation of at least 0, or rows of a gain for each place, got {self.gains!r}"
            )
        if self.rows < 0 or not 0 <= self.defects <= 1:
            raise RecipeError(
                f"rows must be at least 0 and defects from 0 to 1, got {self.rows!r} and {self.defects!r}"
            )

    @property
    def uneven(self) -> bool:
        """True if pixels differ by their place in the tile."""
        return any(np.any(value) for value in (self.crosstalk, self.green_imbalance, self.gains))

    def __call__(
        self, mosaic: Float[Tensor, "*shape"], generator: np.random.Generator, cfa: CFA | None = None
    ) -> Float[Tensor, "*shape"]:
        """Return the mosaic as the sensor reads it, in the same shape and scale.

        Args:
            mosaic: Any shape for noise alone; (n, 1, height, width), of whole tiles, if pixels differ.
            generator: The sample's generator, the only source of random numbers.
            cfa: The array; needed if pixels differ by their place in it.

        Raises:
            RecipeError: The array is needed and missing.
        """
        if self.uneven:
            if cfa is None:
                raise RecipeError("a sensor with crosstalk, green_imbalance or gains needs the CFA")
            mosaic = self._apply_unevenness(mosaic, generator, cfa)
        shot, read = self._draw_noise(generator)
        noise = torch.from_numpy(generator.standard_normal(tuple(mosaic.shape), dtype=np.float32)).to(mosaic)
        sensed = mosaic + noise * (shot * mosaic + read).clamp(min=0).sqrt()
        if self.rows:
            offsets = generator.standard_normal((*mosaic.shape[:-1], 1), dtype=np.float32)
            sensed = sensed + self.rows * torch.from_numpy(offsets).to(mosaic)
        if self.defects:
            chance = torch.from_numpy(generator.random(tuple(mosaic.shape))).to(mosaic.device)
            sensed = apply_defects(sensed, chance < self.defects / 2, chance > 1 - self.defects / 2)
        span = self.white - self.black
        digital = (self.black + sensed * span).round().clamp(0, self.white)
        return (digital - self.black) / span

    def _apply_unevenness(self, mosaic: Tensor, generator: np.random.Generator, cfa: CFA) -> Tensor:
        mosaic = crosstalk(mosaic, cfa, _draw(self.crosstalk, generator))
        mosaic = unequal_greens(mosaic, cfa, _draw(self.green_imbalance, generator))
        if not isinstance(self.gains, int | float):
            return apply_gains(mosaic, torch.tensor(self.gains), cfa)
        gains = generator.normal(1.0, self.gains, (cfa.period, cfa.period))
        return apply_gains(mosaic, torch.from_numpy(gains), cfa)

    def _draw_noise(self, generator: np.random.Generator) -> tuple[float, float]:
        low, high = _range(self.shot, "shot", "a variance")
        shot = low if low == high else float(np.exp(generator.uniform(np.log(low), np.log(high))))
        if self.read is not None:
            return shot, self.read
        return shot, float(np.exp(generator.normal(np.log(usual_read(shot)), READ_SPREAD)))


def usual_read(shot: float) -> float:
    """Return the usual read noise of phone cameras with this shot noise, both variances (Brooks et al. 2019)."""
    return float(np.exp(READ_SLOPE * np.log(shot) + READ_OFFSET))


def _range(value: float | Sequence[float], name: str, what: str) -> tuple[float, float]:
    if isinstance(value, int | float):
        return float(value), float(value)
    if len(value) != 2:
        raise RecipeError(f"{name} must be {what} or a range (low, high), got {value!r}")
    return float(value[0]), float(value[1])


def _draw(value: float | Sequence[float], generator: np.random.Generator) -> float:
    low, high = _range(value, "", "")
    return low if low == high else float(generator.uniform(low, high))
