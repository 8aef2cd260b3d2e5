"""Colour photographs to learn from: a folder of your own, or the few that ship inside two Python wheels.

The scikit-image and scikit-learn wheels hold colour photographs, so a first run needs no download. They are split once
and for all by scene: `bundled:train` and `bundled:test` show different things, and both frames of the stereo pair are
on one side. Those that end in `.jpg` were compressed before: their finest colour detail is smoothed already.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from compresskit.errors import DataError, RecipeError, close_names
from zoo.raw.photographs.read import SUFFIXES, Header, read_header, read_picture
from zoo.raw.sensor.encoding import DOMAINS, Domain, converted

T = TypeVar("T")


BUNDLED = {
    "bundled:train": (
        "skimage/data/astronaut.png",
        "skimage/data/motorcycle_left.png",
        "skimage/data/motorcycle_right.png",
        "skimage/data/rocket.jpg",
        "sklearn/datasets/images/flower.jpg",
    ),
    "bundled:test": (
        "skimage/data/chelsea.png",
        "skimage/data/coffee.png",
        "sklearn/datasets/images/china.jpg",
    ),
}
"""The fixed split of the photographs in the wheels, by the name of its side."""


class Photographs(Sequence[Tensor]):
    """The photographs of a folder, in the order of their paths, or one side of the bundled ones.

    Every file is looked at on construction, so that a damaged, grey or small one is met before any training. As many as
    `memory` holds are decoded then, too, and stay; those beyond it are decoded anew each time they are asked for.
    `photographs[0]` is a whole picture, float32 (3, height, width) from 0 to 1: the stored values over 255 or 65535,
    display-encoded as they are in the file or made linear.

    Args:
        source: A folder (PNG, JPEG, WebP and TIFF, of 8 or 16 bits, in its subfolders too; hidden files are left out),
            `bundled:train` or `bundled:test`.
        smallest: Least height and width in pixels.
        unusable: `refuse` a damaged, grey or small file, or `skip` it with a warning.
        memory: GiB of decoded photographs to keep.
        domain: `display` for the stored values, `linear` for the light that they stand for by the curve of sRGB.
        limit: Only the first so many; None: all.

    Raises:
        DataError: The folder is missing or holds no photographs, or one of them cannot be used. The message names it.
        RecipeError: `source`, `unusable` or `domain` has an unknown name, or `limit` is below 1.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        smallest: int = 1,
        unusable: str = "refuse",
        memory: float = 1.0,
        domain: Domain = "display",
        limit: int | None = None,
    ) -> None:
        if domain not in DOMAINS:
            raise RecipeError(f"there is no domain {domain!r}{close_names(str(domain), DOMAINS)}")
        if limit is not None and limit < 1:
            raise RecipeError(f"limit must be a whole number of at least 1, or none, got {limit!r}")
        if unusable not in ("refuse", "skip"):
            raise RecipeError(f"unusable must be 'refuse' or 'skip', got {unusable!r}")
        self.source = str(source)
        self.domain: Domain = domain
        skip = unusable == "skip"
        looked_at = {path: _attempt(_header, path, smallest) for path in _find(self.source)[:limit]}
        headers = _usable(looked_at, skip=skip)
        within = list(_within(headers, memory * 2**30))
        with ThreadPoolExecutor() as pool:  # decoders let go of the interpreter's lock
            decoded = pool.map(_attempt, [read_picture] * len(within), within, [headers[path] for path in within])
        self._kept = _usable(dict(zip(within, decoded, strict=True)), skip=skip)
        self._headers = {path: header for path, header in headers.items() if path in self._kept or path not in within}
        self._keep = frozenset(within)
        self._paths = list(self._headers)
        if not self._paths:
            raise DataError(f"none of the {len(looked_at)} photographs in {self.source} can be used")

    @property
    def names(self) -> list[str]:
        """The photographs' paths below the folder, without their endings; the file names of bundled ones."""
        if self.source in BUNDLED:
            return [path.stem for path in self._paths]
        root = Path(self.source).expanduser()
        return [path.relative_to(root).with_suffix("").as_posix() for path in self._paths]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of each photograph in pixels."""
        return [(header.height, header.width) for header in self._headers.values()]

    def crop(self, index: int, top: int, left: int, height: int, width: int) -> Float[Tensor, "3 h w"]:
        """A part of a photograph, float32 from 0 to 1; positions and sizes in pixels.

        Raises:
            DataError: The photograph was beyond `memory` and turns out to be damaged.
        """
        return self._as_tensor(self._decoded(self._paths[index])[top : top + height, left : left + width])

    def __getitem__(self, index: int) -> Float[Tensor, "3 h w"]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._as_tensor(self._decoded(self._paths[index]))

    def __len__(self) -> int:
        return len(self._paths)

    def __repr__(self) -> str:
        return f"Photographs({self.source!r}: {len(self)})"

    def __getstate__(self) -> dict[str, object]:
        # a worker that is spawned, not forked, decodes what it needs for itself
        return {**self.__dict__, "_kept": {}}

    def _as_tensor(self, picture: np.ndarray) -> Tensor:
        largest = np.iinfo(picture.dtype).max
        planes = np.ascontiguousarray(np.moveaxis(picture, -1, 0), dtype=np.float32)
        return converted(torch.from_numpy(planes / np.float32(largest)), "display", self.domain)

    def _decoded(self, path: Path) -> np.ndarray:
        if path in self._kept:
            return self._kept[path]
        picture = read_picture(path, self._headers[path])
        if path in self._keep:
            self._kept[path] = picture
        return picture


def turned(pictures: Float[Tensor, "*batch h w"], way: int) -> Float[Tensor, "*batch h2 w2"]:
    """One of the eight ways, 0 to 7, to lay a picture by flips and quarter turns; 0 leaves it as it is."""
    pictures = pictures.flip(-1) if way & 1 else pictures
    pictures = pictures.flip(-2) if way & 2 else pictures
    return pictures.transpose(-1, -2) if way & 4 else pictures


def _find(source: str) -> list[Path]:
    if source in BUNDLED:
        return [_in_wheel(file) for file in BUNDLED[source]]
    if source.startswith("bundled:"):
        raise RecipeError(f"there are no photographs {source!r}{close_names(source, BUNDLED)}")
    folder = Path(source).expanduser()
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"the folder of photographs {source!r} {what}; give a folder, {' or '.join(BUNDLED)}")
    inside = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    seen = sorted(path for path in inside if not any(part.startswith(".") for part in path.relative_to(folder).parts))
    if not seen:
        raise DataError(f"there are no photographs in {source!r}; looked for {', '.join(SUFFIXES)}, in subfolders too")
    return seen


def _in_wheel(file: str) -> Path:
    package, _, inside = file.partition("/")
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise DataError(f"the bundled photograph {file} needs the package {package}, which is not installed")
    return Path(spec.origin).parent / inside


def _header(path: Path, smallest: int) -> Header:
    header = read_header(path)
    if min(header.height, header.width) < smallest:
        raise DataError(
            f"{path} is {header.height}x{header.width} pixels (height x width), smaller than {smallest}x{smallest}"
        )
    return header


def _attempt(read: Callable[..., T], path: Path, detail: object) -> T | DataError:
    try:
        return read(path, detail)
    except DataError as error:
        return error


def _usable(results: Mapping[Path, T | DataError], *, skip: bool) -> dict[Path, T]:
    errors = [result for result in results.values() if isinstance(result, DataError)]
    if errors and not skip:
        others = f" {len(errors) - 1} more files cannot be used either." if len(errors) > 1 else ""
        raise DataError(f"{errors[0]}.{others} Remove them, or leave them out with unusable: skip") from errors[0]
    for error in errors:
        warnings.warn(f"left out: {error}", stacklevel=3)
    return {path: result for path, result in results.items() if not isinstance(result, DataError)}


def _within(headers: Mapping[Path, Header], room: float) -> Iterator[Path]:
    for path, header in headers.items():
        room -= header.bytes
        if room < 0:
            return
        yield path
