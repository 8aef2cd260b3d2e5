"""`compresskit demosaic`: frames from files, through one method, to files."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from compresskit import load_model
from compresskit.errors import CheckpointError, DataError, RecipeError
from zoo.frames.development import Development, in_phase, mosaic_of, picture_of, scaled
from zoo.frames.levels import Input
from zoo.frames.progress import watched
from zoo.frames.read import existing
from zoo.frames.tiled_inference import make_bounded
from zoo.frames.writing import free_place, write
from zoo.pynet.released import network_of
from zoo.raw.methods.lmmse import LMMSEPhase
from zoo.raw.methods.methods import METHODS
from zoo.raw.sensor.cfa import CFA
from zoo.raw.sensor.encoding import Domain


@dataclass(frozen=True, slots=True)
class Method:
    """A way to demosaic, before the array of a frame is known."""

    name: str
    make: Callable[[CFA], nn.Module]
    """From an array to a module for it, or for one that differs from it in the phase."""
    cfa: CFA | None
    """The only array that it takes, phase included; None takes any."""
    domain: Domain
    """What it was made for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What is to be written."""

    folder: Path
    format: str = "png"
    bits: int = 8
    linear: bool = False
    bayer: CFA | None = None
    """Instead of a picture, a mosaic of this array, with the frame's levels, in 16 bits."""
    overwrite: bool = False

    def path(self, image: Path, method: str) -> Path:
        """Where the result of an image goes: `NAME_METHOD.png`, `NAME_METHOD_bayer-grbg.png`."""
        array = "" if self.bayer is None else f"_bayer-{self.bayer.phase}"
        return self.folder / f"{image.stem}_{method}{array}.{self.format}"


def demosaic(
    images: Sequence[Path], method: Method, given: Input, output: Output, *, memory: float = 2.0
) -> Iterator[str]:
    """Demosaic images one after the other; each is told in a line when it is written.

    All images and all places for results are looked for before the first image is read.

    Args:
        images: Files.
        method: How.
        given: What is said of them.
        output: Where to, and what.
        memory: GiB for everything but a frame and its picture.

    Raises:
        DataError: An image cannot be used, or a result cannot be written; the message names it.
    """
    places: dict[Path, Path] = {}
    for image in images:
        place = output.path(existing(image), method.name)
        if place in places:
            raise DataError(f"{places[place]} and {image} would both be written to {place}; give one of them at a time")
        places[place] = image
    for place in places:  # makes the folder, so not before every image is known to be there
        free_place(place, overwrite=output.overwrite)
    for place, image in places.items():
        yield _one(image, place, method, given, output, memory)


def _one(image: Path, place: Path, method: Method, given: Input, output: Output, memory: float) -> str:
    began = time.perf_counter()
    frame, levels = given.read(image, method.cfa)
    levels = scaled(levels, largest=output.bayer is not None)
    sensed, numbers, (top, left) = levels.cfa, frame.values, (0, 0)
    if method.cfa is not None:
        numbers, (top, left) = in_phase(numbers, sensed, method.cfa)
        levels = replace(levels, cfa=method.cfa)
    if output.bayer is None:
        finish = picture_of(
            method.domain, "linear" if output.linear else "display", output.bits if output.format != "npy" else None
        )
    else:
        bayer = output.bayer.rolled(top, left)
        finish = mosaic_of(method.domain, frame.domain, levels, bayer)
    development = Development(
        module=method.make(levels.cfa).eval(),
        levels=levels,
        source=frame.domain,
        working=method.domain,
        finish=finish,
        highest=1.0 if output.bayer is None else None,
    )
    with watched(image.name) as watch:
        made = make_bounded(development, numbers, memory, watch=watch)
    picture = made.picture[top:, left:]
    write(place, np.rot90(picture, frame.turn) if output.bayer is None else picture)
    height, width = frame.values.shape
    tiles = "whole" if made.tiles == 1 else f"{made.tiles} tiles" + (", approximate" if made.approximate else "")
    seconds = time.perf_counter() - began
    return f"{place}  {width}x{height}, {sensed.name}, {method.name}, {tiles}, {seconds:.1f} s"


def conventional(name: str, weights: Path | None, domain: Domain | None, device: str) -> Method:
    """A method by its name in `METHODS`. With weights, `lmmse` takes the filters that a run has fitted.

    Raises:
        CheckpointError: The weights have no LMMSE-phase.
    """
    if name == "lmmse" and weights is not None:
        loaded = load_model(weights)
        fitted = next((part for part in loaded.model.modules() if isinstance(part, LMMSEPhase)), None)
        if fitted is None:
            raise CheckpointError(f"{weights} has no LMMSE-phase; leave --weights out, and it is fitted anew")
        return Method(name, lambda _: _placed(fitted, device), fitted.cfa, domain or _domain(loaded.recipe))
    return Method(name, lambda cfa: _placed(METHODS[name](cfa), device), None, domain or "display")


def trained(part: str, weights: Path, domain: Domain | None, device: str) -> Method:
    """A network of a run, or a released one.

    Raises:
        CheckpointError: The weights, or the recipe beside them, cannot be used.
    """
    loaded = load_model(weights, part=part if weights.is_dir() else None, otherwise=network_of)
    model = _placed(loaded.model, device)
    cfa = getattr(model, "cfa", None)
    if not isinstance(cfa, CFA):
        raise CheckpointError(f"{weights} is a {type(model).__name__}, which does not say for which array it is")
    return Method(part, lambda _: model, cfa, domain or _domain(loaded.recipe))


def _placed(module: nn.Module, device: str) -> nn.Module:
    try:
        return module.to(device)
    except (RuntimeError, AssertionError) as error:  # torch's two ways to say that there is none
        raise RecipeError(f"--device {device}: {str(error).strip().splitlines()[0]}") from error


def _domain(recipe: Mapping[str, Any] | None) -> Domain:
    """What a network was trained in: photographs are display-encoded, the released networks saw a sensor's values."""
    if recipe is None:
        return "linear"
    return ((recipe.get("data") or {}).get("train") or {}).get("domain", "display")
