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
from zoo.frames.frame import BlackLevels, Frame, Gains, repair_defects
from zoo.frames.mipi import Layout
from zoo.frames.read import read_defects, read_mosaic, simulate_mosaic
from zoo.raw.sensor.cfa import CFA

DARK = 0.05
"""Share of the range. A frame whose brightest value is below it is dark, or its white level is that of more bits."""


ABOVE_WHITE = 1e-3
"""Share of pixels that may lie above white. Hot ones do; a frame of more bits than expected has more of them."""


PILED = 0.5
"""Least share of the values above white that are at the value where the sensor clips."""


CLIP_WIDTH = 0.01
"""Share of the range by which the values of full pixels may differ from each other."""


ROWS = 256
"""Rows whose levels are aligned at once."""


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
    clip: float | None = None
    """The number that a full pixel gives, above white."""
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
        if frame.values.size == 0:
            raise DataError(f"{image} has no pixels: it is {'x'.join(map(str, frame.values.shape[::-1]))}")
        frame = replace(frame, domain="display") if self.encoded else frame
        frame = frame if self.black is None else replace(frame, black=self.black)
        levels = self._levels(frame, image)
        frame = align_levels(frame, levels)
        if self.defects is not None:
            frame = replace(frame, values=repair_defects(frame.values, read_defects(self.defects), levels.cfa))
        clip = check_levels(frame, levels, self.clip)
        _warn(image, frame, levels, clip, balanced=self.gains is not None)
        return frame, levels

    def _levels(self, frame: Frame, image: Path) -> Levels:
        cfa = self.cfa or frame.cfa
        black = frame.black.largest if isinstance(frame.black, BlackLevels) else frame.black
        white = frame.white if self.white is None else self.white
        if cfa is None:
            raise DataError(f"{image} {frame.no_cfa}: add --cfa, such as --cfa qxq-grbg")
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


def align_levels(frame: Frame, levels: Levels) -> Frame:
    """Return the frame with its largest black level in all places, and without the lens's shading.

    Numbers above white stay as they are, and others are raised to white at most: how much more light there was is not
    known.

    Source: Adobe, *Digital Negative Specification*, version 1.7.1.0, chapter 5, *Mapping Raw Values to Linear
    Reference Values*.
    """
    if not isinstance(frame.black, BlackLevels) and frame.shading is None:
        return frame
    height, width = frame.values.shape
    aligned = np.empty((height, width), np.float32)
    for start in range(0, height, ROWS):
        stop = min(start + ROWS, height)
        numbers = frame.values[start:stop].astype(np.float64)
        black = frame.black.of_rows(start, stop, width) if isinstance(frame.black, BlackLevels) else levels.black
        light = (numbers - black) * (1 if frame.shading is None else frame.shading(start, stop))
        aligned[start:stop] = np.where(numbers < levels.white, np.minimum(light + levels.black, levels.white), numbers)
    return replace(frame, values=aligned, black=levels.black, shading=None)


def check_levels(frame: Frame, levels: Levels, clip: float | None = None) -> float | None:
    """Refuse a frame whose numbers contradict its levels.

    Args:
        frame: The frame.
        levels: Its levels.
        clip: The number that a full pixel gives, if the user states one.

    Returns:
        The number above white that full pixels have; None if none has one.

    Raises:
        DataError: White is not above black, there are NaN or infinite values, or many numbers lie above white and not
            where the sensor clips.
    """
    if not levels.black < levels.white:
        raise DataError(f"{frame.name}: black {levels.black:g} must be below white {levels.white:g}")
    if clip is not None and clip < levels.white:
        raise DataError(f"{frame.name}: --clip {clip:g} is below white {levels.white:g}; give it as --white")
    values = frame.values
    if values.dtype.kind == "f":
        unusable = sum(int((~np.isfinite(row)).sum()) for row in values)
        if unusable:
            raise DataError(
                f"{frame.name}: {unusable} of {values.size} values are NaN or infinite; map them as defects"
            )
    above = int((values > levels.white).sum())
    if above <= ABOVE_WHITE * values.size:
        return None
    full = _pile(values, levels) if clip is None else clip
    if full is not None and int((values > full).sum()) <= ABOVE_WHITE * values.size:
        return full
    raise DataError(
        f"{frame.name}: {above / values.size:.1%} of the values are above the white level {levels.white:g}, up to "
        f"{values.max():g}; are there more bits than that? Give the right --white, or --clip where the sensor clips"
    )


def _pile(values: Shaped[np.ndarray, "h w"], levels: Levels) -> float | None:
    """Return the number above white at which the values of full pixels pile up; None if they do not.

    A frame of more bits than expected goes to twice the white level and farther.
    """
    period, width = levels.cfa.period, CLIP_WIDTH * (levels.white - levels.black)
    above = piled = 0
    highest = levels.white
    for letter in "RGB":  # whose pixels may clip at values of their own
        places = [
            (row, column) for row, line in enumerate(levels.cfa.tile) for column, at in enumerate(line) if at == letter
        ]
        parts = [values[row::period, column::period] for row, column in places]
        numbers = np.concatenate([values[:0, 0], *(part[part > levels.white] for part in parts)])
        if len(numbers):
            levels_above, counts = np.unique(numbers, return_counts=True)
            near = numbers[np.abs(numbers.astype(np.float64) - levels_above[counts.argmax()]) <= width]
            above, piled, highest = above + len(numbers), piled + len(near), max(highest, float(near.max()))
    is_clipped = piled >= PILED * above and highest - levels.black < 2 * (levels.white - levels.black)
    return highest if is_clipped else None


def _multiply(values: Tensor, cfa: CFA, gains: tuple[float, ...]) -> Tensor:
    """Multiply each pixel by the gain of its colour."""
    if len(set(gains)) == 1:
        return values * gains[0]
    height, width = values.shape
    period = cfa.period
    tile = torch.stack([cfa.masks(period, period)[colour] * gains[colour] for colour in range(3)]).sum(0)
    return values * tile.repeat(-(-height // period), -(-width // period))[:height, :width]


def _warn(image: Path, frame: Frame, levels: Levels, clip: float | None, *, balanced: bool) -> None:
    """Say on standard error what the file says of itself, and what was decided about it."""
    remarks = list(frame.remarks)
    if frame.cfa is not None and frame.cfa != levels.cfa:
        remarks.append(f"taken as {levels.cfa.name}, though the file says {frame.cfa.name}")
    if frame.lacks_balance and not balanced:
        remarks.append("states no white balance: its colours stay as the sensor sees them; see --white-balance")
    if clip is not None:
        share = float((frame.values > levels.white).mean())
        remarks.append(
            f"{share:.1%} of its values are above white {levels.white:g}, up to {clip:g}, where the sensor clips; "
            "they count as full"
        )
    brightest = (float(frame.values.max()) - levels.black) / (levels.white - levels.black)
    if brightest < DARK:
        remarks.append(
            f"its brightest value is {max(brightest, 0):.1%} of the way from black to white; if the scene was not "
            "dark, --white is too high"
        )
    for remark in remarks:
        sys.stderr.write(f"{image}: {remark}\n")
