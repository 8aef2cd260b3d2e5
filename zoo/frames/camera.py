"""Camera files: DNG, and all others that LibRaw reads. They need the extra `camera`."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from compresskit.errors import DataError
from zoo.frames.dng import read_cfa, read_plain
from zoo.frames.frame import Frame, Gains
from zoo.raw.sensor.cfa import CFA

CAMERA_SUFFIXES = (".dng", ".arw", ".cr2", ".cr3", ".nef", ".orf", ".pef", ".raf", ".rw2", ".srw")


TURNS = {0: 0, 3: 2, 5: 1, 6: 3}
"""Quarter turns, counterclockwise, that put a picture upright, by LibRaw's `flip`."""


LONGEST_PERIOD = 16
"""Side in pixels of the largest tile that is looked for."""


def read_camera(path: Path) -> Frame:
    """Read a camera file's mosaic, with the array, levels and white balance that the file states.

    Raises:
        DataError: rawpy is missing, or the file is damaged, unknown to LibRaw or no mosaic.
    """
    try:
        import rawpy
    except ImportError:
        raise DataError(f"{path}: camera files need rawpy: pip install 'compresskit[camera]'") from None
    is_dng = path.suffix.lower() == ".dng"
    try:
        tag_cfa = read_cfa(path) if is_dng else None
        with rawpy.imread(str(path)) as raw:
            if raw.raw_type != rawpy.RawType.Flat:
                raise DataError(f"{path} is no mosaic: its pixels have several colours each")
            letters = np.frombuffer(raw.color_desc, "S1").astype("U1")
            return Frame(
                name=path.stem,
                values=raw.raw_image_visible.copy(),
                cfa=tag_cfa or _repeating_tile(letters[raw.raw_colors_visible[:96, :96]]),
                black=_black(path, raw),
                white=float(raw.white_level),
                gains=_gains(raw.camera_whitebalance),
                turn=TURNS.get(raw.sizes.flip, 0),
            )
    except tifffile.TiffFileError as error:
        raise DataError(f"{path} is damaged, or no DNG: {error}") from error
    except rawpy.LibRawError as error:
        if is_dng and (frame := read_plain(path)) is not None:  # LibRaw refuses some large tiles
            return frame
        reason = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise DataError(f"{path} cannot be read as a camera file: {reason}") from error


def _repeating_tile(letters: np.ndarray) -> CFA | None:
    """Return the array of the smallest square tile that these pixels' colours repeat; None if there is none."""
    for period in range(2, min(LONGEST_PERIOD, *letters.shape) + 1):
        tile = letters[:period, :period]
        if all((letters == np.roll(letters, period, axis))[period:, period:].all() for axis in (0, 1)):
            return CFA(["".join(row) for row in tile])
    return None


def _black(path: Path, raw: Any) -> float:
    levels = np.array(raw.black_level_per_channel, float)
    if np.ptp(levels) > 0.01 * (raw.white_level - levels.min()):
        raise DataError(f"{path} has black levels of its own for each colour ({levels}): give one with --black")
    return float(levels.mean())


def _gains(balance: list[float]) -> Gains | None:
    red, green, blue, second = (*balance, 0.0)[:4]
    green = (green + second) / 2 if second else green
    return (red / green, 1.0, blue / green) if min(red, green, blue) > 0 else None
