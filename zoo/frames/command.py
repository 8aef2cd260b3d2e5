"""`compresskit demosaic`: frames from files, through one method, to files."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from compresskit.errors import DataError
from zoo.frames.development import Development, align_phase, mosaic_of, picture_of, scale_gains
from zoo.frames.levels import Input
from zoo.frames.method import Method
from zoo.frames.progress import progress_bars
from zoo.frames.read import check_file
from zoo.frames.tiled_inference import demosaic_frame
from zoo.frames.writing import check_writable, write
from zoo.raw.sensor.cfa import CFA


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The folder and format of the results."""

    folder: Path
    format: str = "png"
    bits: int = 8
    linear: bool = False
    bayer: CFA | None = None
    """The array of a mosaic to write instead of a picture, with the frame's levels, in 16 bits."""
    overwrite: bool = False

    def path(self, image: Path, method: str) -> Path:
        """Return the file of an image's result: `NAME_METHOD.png`, `NAME_METHOD_bayer-grbg.png`."""
        array = "" if self.bayer is None else f"_bayer-{self.bayer.phase}"
        return self.folder / f"{image.stem}_{method}{array}.{self.format}"


def demosaic(
    images: Sequence[Path], method: Method, inputs: Input, output: Output, *, memory: float = 2.0
) -> Iterator[str]:
    """Demosaic images one after the other, and yield a line for each when it is written.

    All images, and all files for results, are checked before the first image is read.

    Args:
        images: Files.
        method: The way to demosaic.
        inputs: The user's statements about the images.
        output: The folder and format of the results.
        memory: GiB for everything but a frame and its picture.

    Raises:
        DataError: An image cannot be used, or a result cannot be written; the message names it.
    """
    image_of: dict[Path, Path] = {}
    for image in images:
        result = output.path(check_file(image), method.name)
        if result in image_of:
            raise DataError(
                f"{image_of[result]} and {image} would both be written to {result}; give one of them at a time"
            )
        image_of[result] = image
    for result in image_of:  # makes the folder, so not before every image is known to exist
        check_writable(result, overwrite=output.overwrite)
    for result, image in image_of.items():
        yield _demosaic_file(image, result, method, inputs, output, memory)


def _demosaic_file(image: Path, result: Path, method: Method, inputs: Input, output: Output, memory: float) -> str:
    start = time.perf_counter()
    frame, levels = inputs.read(image, method.cfa)
    levels = scale_gains(levels, largest=output.bayer is not None)
    sensor_cfa, numbers, (top, left) = levels.cfa, frame.values, (0, 0)
    if method.cfa is not None:
        numbers, (top, left) = align_phase(numbers, sensor_cfa, method.cfa)
        levels = replace(levels, cfa=method.cfa)
    if output.bayer is None:
        target = "linear" if output.linear else "display"
        finish = picture_of(method.domain, target, output.bits if output.format != "npy" else None)
    else:
        finish = mosaic_of(method.domain, frame.domain, levels, output.bayer.rolled(top, left))
    development = Development(
        module=method.build(levels.cfa).eval(),
        levels=levels,
        source=frame.domain,
        working=method.domain,
        finish=finish,
        highest=1.0 if output.bayer is None else None,
        half=method.half,
    )
    with progress_bars(image.name) as start_bar:
        demosaiced = demosaic_frame(development, numbers, memory, start_bar=start_bar)
    picture = demosaiced.picture[top:, left:]
    write(result, np.rot90(picture, frame.turn) if output.bayer is None else picture)
    height, width = frame.values.shape
    tiles = "whole" if demosaiced.tiles == 1 else f"{demosaiced.tiles} tiles"
    tiles += ", approximate" if demosaiced.approximate else ""
    tiles += ", bf16" if method.half else ""
    seconds = time.perf_counter() - start
    return f"{result}  {width}x{height}, {sensor_cfa.name}, {method.name}, {tiles}, {seconds:.1f} s"
