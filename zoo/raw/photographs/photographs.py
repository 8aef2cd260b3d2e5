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
from zoo.raw.sensor.encoding import DOMAINS, Domain, convert

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
"""Files in the wheels, by the name of their side of the split."""


class Photographs(Sequence[Tensor]):
    """The photographs of a folder, in the order of their paths, or one side of the bundled ones.

    Every file's header is read on construction, so that a damaged, grey or small one is refused before any training. As
    many pictures as `memory` holds are decoded then, too, and kept; the others are decoded at each access.
    `photographs[0]` is a whole picture, float32 (3, height, width) from 0 to 1: the stored values over 255 or 65535,
    display-encoded as they are in the file or made linear.

    Args:
        source: A folder (PNG, JPEG, WebP and TIFF, of 8 or 16 bits, in its subfolders too; hidden files are left out),
            `bundled:train` or `bundled:test`.
        smallest: Least height and width in pixels.
        unusable: `refuse` a damaged, grey or small file, or `skip` it with a warning.
        memory: GiB of decoded photographs to keep.
        domain: `display` for the stored values, `linear` for the light that they stand for by the curve of sRGB.
        limit: Number of photographs to take, from the first; None takes all.

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
        attempts = {path: _attempt(_header, path, smallest) for path in _find(self.source)[:limit]}
        headers = _usable(attempts, skip=skip)
        resident = list(_first_within(headers, memory * 2**30))
        with ThreadPoolExecutor() as pool:  # decoders release the interpreter's lock
            pictures = pool.map(
                _attempt, [read_picture] * len(resident), resident, [headers[path] for path in resident]
            )
        self._pictures = _usable(dict(zip(resident, pictures, strict=True)), skip=skip)
        self._headers = {
            path: header for path, header in headers.items() if path in self._pictures or path not in resident
        }
        self._resident = frozenset(resident)
        self._paths = list(self._headers)
        if not self._paths:
            raise DataError(f"none of the {len(attempts)} photographs in {self.source} can be used")

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
        """Return a part of a photograph, float32 from 0 to 1; positions and sizes are in pixels.

        Raises:
            DataError: The photograph was beyond `memory` and turns out to be damaged.
        """
        return self._as_tensor(self._picture(self._paths[index])[top : top + height, left : left + width])

    def __getitem__(self, index: int) -> Float[Tensor, "3 h w"]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._as_tensor(self._picture(self._paths[index]))

    def __len__(self) -> int:
        return len(self._paths)

    def __repr__(self) -> str:
        return f"Photographs({self.source!r}: {len(self)})"

    def __getstate__(self) -> dict[str, object]:
        # a spawned worker decodes the pictures that it needs
        return {**self.__dict__, "_pictures": {}}

    def _as_tensor(self, picture: np.ndarray) -> Tensor:
        largest = np.iinfo(picture.dtype).max
        planes = np.ascontiguousarray(np.moveaxis(picture, -1, 0), dtype=np.float32)
        return convert(torch.from_numpy(planes / np.float32(largest)), "display", self.domain)

    def _picture(self, path: Path) -> np.ndarray:
        if path in self._pictures:
            return self._pictures[path]
        picture = read_picture(path, self._headers[path])
        if path in self._resident:
            self._pictures[path] = picture
        return picture


def turn(pictures: Float[Tensor, "*batch h w"], way: int) -> Float[Tensor, "*batch h2 w2"]:
    """Flip or turn pictures in one of eight ways, 0 to 7; 0 leaves them as they are."""
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
    files = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    paths = sorted(path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts))
    if not paths:
        raise DataError(f"there are no photographs in {source!r}; looked for {', '.join(SUFFIXES)}, in subfolders too")
    return paths


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
    """Return the results that are no errors; raise the first error, or warn of all if `skip` is set."""
    errors = [result for result in results.values() if isinstance(result, DataError)]
    if errors and not skip:
        others = f" {len(errors) - 1} more files cannot be used either." if len(errors) > 1 else ""
        raise DataError(f"{errors[0]}.{others} Remove them, or leave them out with unusable: skip") from errors[0]
    for error in errors:
        warnings.warn(f"left out: {error}", stacklevel=3)
    return {path: result for path, result in results.items() if not isinstance(result, DataError)}


def _first_within(headers: Mapping[Path, Header], budget: float) -> Iterator[Path]:
    """Yield the first photographs whose pictures together fit into a number of bytes."""
    for path, header in headers.items():
        budget -= header.bytes
        if budget < 0:
            return
        yield path
