"""Who decides what a frame's numbers mean: a `Frame` has what its file states, an `Input` what the user states.

The user overrides the file, whose metadata are often wrong. The outcome is `Levels`, which leaves nothing open.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from compresskit.errors import DataError
from zoo.frames.frame import Frame, Gains, repair_defects
from zoo.frames.mipi import Layout
from zoo.frames.read import read_defects, read_mosaic, simulate_mosaic
from zoo.raw.sensor.cfa import CFA

DARK = 0.05
"""Share of the range. A frame whose brightest value is below it is dark, or its white level is that of more bits."""


ABOVE_WHITE = 1e-3
"""Share of pixels that may lie above white. Hot ones do; a frame of more bits than expected has more of them."""


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Levels and gains that turn a frame's numbers into values from 0, black, to 1, white, with balanced colours."""

    cfa: CFA
    black: float
    white: float
    gains: Gains = (1.0, 1.0, 1.0)

    def apply(self, numbers: Shaped[np.ndarray, "h w"]) -> Float[Tensor, "h w"]:
        """Return the values of a part of a frame that begins where a tile of the array begins."""
        values = (numbers.astype(np.float32) - np.float32(self.black)) * np.float32(1 / (self.white - self.black))
        return _multiply(torch.from_numpy(values), self.cfa, self.gains)

    def undo(self, values: Float[Tensor, "h w"], cfa: CFA) -> Float[Tensor, "h w"]:
        """Return the numbers, with the same levels, of a mosaic of another array."""
        unbalanced = _multiply(values, cfa, tuple(1 / gain for gain in self.gains))
        return unbalanced * (self.white - self.black) + self.black


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """The user's statements about the frames. None leaves a statement to the files."""

    cfa: CFA | None = None
    photographs: bool = False
    """The images are colour photographs; a sensor with the array is simulated from them."""
    layout: Layout | None = None
    black: float | None = None
    white: float | None = None
    gains: Gains | None = None
    encoded: bool = False
    """The mosaic's values are display-encoded already."""
    defects: Path | None = None

    def read(self, image: Path, expected: CFA | None) -> tuple[Frame, Levels]:
        """Read a frame, repair its defects and decide its levels.

        Args:
            image: A file.
            expected: The array that the method is for. Photographs are seen through it if the user names none.

        Raises:
            DataError: The file cannot be used; or neither it nor the user states what is needed; or what they state
                cannot be true. The message names the option that helps.
        """
        if self.photographs:
            frame = simulate_mosaic(image, self.cfa or expected or CFA.named())
        else:
            frame = read_mosaic(image, layout=self.layout)
        frame = replace(frame, domain="display") if self.encoded else frame
        levels = self._levels(frame, image)
        if self.defects is not None:
            frame = replace(frame, values=repair_defects(frame.values, read_defects(self.defects), levels.cfa))
        check_levels(frame, levels)
        _warn(image, frame, levels)
        return frame, levels

    def _levels(self, frame: Frame, image: Path) -> Levels:
        cfa = self.cfa or frame.cfa
        black = frame.black if self.black is None else self.black
        white = frame.white if self.white is None else self.white
        if cfa is None:
            raise DataError(f"{image} does not say which array its sensor has: add --cfa, such as --cfa qxq-grbg")
        if white is None or black is None:
            missing = " and ".join(
                option for option, level in (("--black", black), ("--white", white)) if level is None
            )
            raise DataError(
                f"{image} does not say which numbers are black and white: add {missing} (a sensor of 10 bits often has "
                f"--black 64 --white 1023; the numbers here go from {frame.values.min():g} to {frame.values.max():g})"
            )
        gains = self.gains or frame.gains or (1.0, 1.0, 1.0)
        if frame.domain == "display" and len(set(gains)) > 1:
            raise DataError(f"{image}: white balance is for linear values, and these are display-encoded")
        return Levels(cfa=cfa, black=float(black), white=float(white), gains=gains)


def check_levels(frame: Frame, levels: Levels) -> None:
    """Refuse a frame whose numbers contradict its levels.

    Raises:
        DataError: White is not above black, there are NaN or infinite values, or many numbers lie above white.
    """
    if not levels.black < levels.white:
        raise DataError(f"{frame.name}: black {levels.black:g} must be below white {levels.white:g}")
    values = frame.values
    if values.dtype.kind == "f":
        unusable = sum(int((~np.isfinite(row)).sum()) for row in values)
        if unusable:
            raise DataError(
                f"{frame.name}: {unusable} of {values.size} values are NaN or infinite; map them as defects"
            )
    above = int((values > levels.white).sum())
    if above > ABOVE_WHITE * values.size:
        raise DataError(
            f"{frame.name}: {above / values.size:.1%} of the values are above the white level {levels.white:g}, up to "
            f"{values.max():g}; are there more bits than that? Give the right --white"
        )


def _multiply(values: Tensor, cfa: CFA, gains: tuple[float, ...]) -> Tensor:
    """Multiply each pixel by the gain of its colour."""
    if len(set(gains)) == 1:
        return values * gains[0]
    height, width = values.shape
    period = cfa.period
    tile = torch.stack([cfa.masks(period, period)[colour] * gains[colour] for colour in range(3)]).sum(0)
    return values * tile.repeat(-(-height // period), -(-width // period))[:height, :width]


def _warn(image: Path, frame: Frame, levels: Levels) -> None:
    """Warn on standard error of an array that overrides the file's, and of a very dark frame."""
    if frame.cfa is not None and frame.cfa != levels.cfa:
        sys.stderr.write(f"{image}: taken as {levels.cfa.name}, though the file says {frame.cfa.name}\n")
    brightest = (float(frame.values.max()) - levels.black) / (levels.white - levels.black)
    if brightest < DARK:
        sys.stderr.write(
            f"{image}: its brightest value is {max(brightest, 0):.1%} of the way from black to white; if the scene was "
            "not dark, --white is too high\n"
        )
