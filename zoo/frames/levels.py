"""A mosaic as it came from a file, and what a demosaicing method is given of it."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from compresskit.errors import DataError
from zoo.frames.frame import Frame, Gains, Levels, check, without_defects
from zoo.frames.mipi import Layout
from zoo.frames.read import photographed, read_defects, read_mosaic
from zoo.raw.sensor.cfa import CFA

DARK = 0.05
"""Of the range: a frame whose brightest value is below it is dark, or has fewer bits than its white level says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What the user says of the frames. It stands over what files say, which is often wrong; None leaves it to them."""

    cfa: CFA | None = None
    photographs: bool = False
    """The images are colour photographs, and a sensor with the array is to see them."""
    layout: Layout | None = None
    black: float | None = None
    white: float | None = None
    gains: Gains | None = None
    encoded: bool = False
    """The mosaic's values are display-encoded already."""
    defects: Path | None = None

    def read(self, image: Path, expected: CFA | None) -> tuple[Frame, Levels]:
        """A frame without defects, and its levels.

        Args:
            image: A file.
            expected: The array that the method is for. Photographs are seen through it if the user names none.

        Raises:
            DataError: The file cannot be used, or neither it nor the user says what is needed, or both say what cannot
                be true. The message names the option that helps.
        """
        if self.photographs:
            frame = photographed(image, self.cfa or expected or CFA.named())
        else:
            frame = read_mosaic(image, layout=self.layout)
        frame = replace(frame, domain="display") if self.encoded else frame
        levels = self._levels(frame, image)
        if self.defects is not None:
            frame = replace(frame, values=without_defects(frame.values, read_defects(self.defects), levels.cfa))
        check(frame, levels)
        _tell(image, frame, levels)
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


def _tell(image: Path, frame: Frame, levels: Levels) -> None:
    """Say on standard error what a user would want to look at."""
    if frame.cfa is not None and frame.cfa != levels.cfa:
        sys.stderr.write(f"{image}: taken as {levels.cfa.name}, though the file says {frame.cfa.name}\n")
    brightest = (float(frame.values.max()) - levels.black) / (levels.white - levels.black)
    if brightest < DARK:
        sys.stderr.write(
            f"{image}: its brightest value is {max(brightest, 0):.1%} of the way from black to white; if the scene was "
            "not dark, --white is too high\n"
        )
