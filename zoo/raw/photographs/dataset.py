"""Pairs of a packed mosaic and the photograph that it shows: crops to train on, whole pictures to measure with."""

import copy
import math
from pathlib import Path

from jaxtyping import Float
from numpy.random import Generator
from torch import Tensor
from torch.utils.data import Dataset

from compresskit.data import rng
from compresskit.errors import RecipeError
from zoo.raw.photographs.photographs import Photographs, turn
from zoo.raw.sensor.cfa import BLOCKS, CFA
from zoo.raw.sensor.encoding import Domain
from zoo.raw.sensor.sensor import Sensor

Pair = tuple[Float[Tensor, "planes h2 w2"], Float[Tensor, "3 h w"]]


COMMON_PERIOD = math.lcm(*(2 * block for block in BLOCKS.values()))
"""Pixels that are a whole number of tiles of each array with a name."""


class PhotographCrops(Dataset[Pair]):
    """Random square crops of photographs: (packed mosaic (4, size/2, size/2), picture (3, size, size)), float32.

    A sample depends on the run's seed, its index and its epoch alone; `compresskit.data.SampleId` carries them. With a
    plain index, as from a plain `DataLoader`, every epoch is the first. A crop may lie anywhere in its photograph, and
    is flipped or turned before its mosaic is made, so every mosaic has the phase of the CFA.

    Args:
        photographs: A folder or the name of bundled photographs; see `Photographs`.
        size: Side of a crop in pixels, a multiple of the CFA's period.
        crops_per_photograph: Samples of each photograph in an epoch.
        cfa: The colour filter array, or its name.
        flips: Show crops in all eight flips and quarter turns.
        candidates: Number of crops drawn for each sample; the one with the strongest fine detail is taken.
            With more than 1, flat areas, from which there is little to learn, are seen less often than they occur.
        sensor: Noise and quantisation of the mosaic; the picture stays clean. None gives exact values.
        variants: Number of epochs after which the same crops come again; None makes every epoch new.
        domain: `display` for pictures and mosaics as photographs are stored, `linear` as a sensor counts light.
        unusable: `refuse` damaged, grey or small photographs, or `skip` them with a warning.
        memory: GiB of decoded photographs to keep.

    Raises:
        DataError: A photograph, or the folder, cannot be used; a photograph is smaller than a crop.
        RecipeError: An option has an impossible value.
        ShapeError: `size` is no multiple of the CFA's period.
    """

    def __init__(
        self,
        photographs: str | Path = "bundled:train",
        *,
        size: int = 128,
        crops_per_photograph: int = 16,
        cfa: CFA | str = "qxq",
        flips: bool = True,
        candidates: int = 1,
        sensor: Sensor | None = None,
        variants: int | None = None,
        domain: Domain = "display",
        unusable: str = "refuse",
        memory: float = 1.0,
    ) -> None:
        counts = {"crops_per_photograph": crops_per_photograph, "candidates": candidates, "variants": variants}
        for name, value in counts.items():
            if value is not None and value < 1:
                raise RecipeError(f"{name} must be a whole number of at least 1, got {value!r}")
        self.cfa = CFA.of(cfa)
        self.cfa.check_size(size, size, what="crops")
        self.photographs = Photographs(photographs, smallest=size, unusable=unusable, memory=memory, domain=domain)
        self.size = size
        self.crops_per_photograph = crops_per_photograph
        self.flips = flips
        self.candidates = candidates
        self.sensor = sensor
        self.variants = variants

    def __len__(self) -> int:
        return len(self.photographs) * self.crops_per_photograph

    def __getitem__(self, index: int) -> Pair:
        generator = _generator(index, self.variants)
        crops = (self._crop(index // self.crops_per_photograph, generator) for _ in range(self.candidates))
        picture = max(crops, key=_detail) if self.candidates > 1 else next(crops)
        if self.flips:
            picture = turn(picture, int(generator.integers(8)))
        return _pair(picture, self.cfa, self.sensor, generator)

    def _crop(self, photograph: int, generator: Generator) -> Tensor:
        height, width = self.photographs.sizes[photograph]
        top, left = (int(generator.integers(side - self.size + 1)) for side in (height, width))
        return self.photographs.crop(photograph, top, left, self.size, self.size)


class PhotographFrames(Dataset[Pair]):
    """Whole photographs: (packed mosaic (4, h/2, w/2), picture (3, h, w)), float32, each of its own size.

    Their last rows and columns are cut off so that their sides are multiples of 24 pixels, which is a whole number of
    tiles of Bayer, Quad, Nona and QxQ arrays alike: figures for different arrays are of the same pixels.

    Args:
        photographs: A folder or the name of bundled photographs; see `Photographs`.
        cfa: The colour filter array, or its name.
        sensor: Noise and quantisation of the mosaic, the same each time; the picture stays clean. None gives exact
            values.
        domain: `display` for pictures and mosaics as photographs are stored, `linear` as a sensor counts light.
        unusable: `refuse` damaged, grey or small photographs, or `skip` them with a warning.
        memory: GiB of decoded photographs to keep.
        limit: Number of photographs to take, from the first; None takes all.

    Raises:
        DataError: A photograph, or the folder, cannot be used.
        RecipeError: An option has an impossible value.
    """

    def __init__(
        self,
        photographs: str | Path = "bundled:test",
        *,
        cfa: CFA | str = "qxq",
        sensor: Sensor | None = None,
        domain: Domain = "display",
        unusable: str = "refuse",
        memory: float = 1.0,
        limit: int | None = None,
    ) -> None:
        self.cfa = CFA.of(cfa)
        self.multiple = math.lcm(COMMON_PERIOD, self.cfa.period)
        options = {"unusable": unusable, "memory": memory, "domain": domain, "limit": limit}
        self.photographs = Photographs(photographs, smallest=self.multiple, **options)
        self.sensor = sensor

    @property
    def domain(self) -> Domain:
        """The encoding of light in the pictures and mosaics."""
        return self.photographs.domain

    def seen_by(self, sensor: Sensor | None) -> "PhotographFrames":
        """Return the same photographs through another sensor; their memory is shared."""
        other = copy.copy(self)
        other.sensor = sensor
        return other

    @property
    def names(self) -> list[str]:
        """The names of the photographs."""
        return self.photographs.names

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of each picture in pixels."""
        return [
            (height - height % self.multiple, width - width % self.multiple) for height, width in self.photographs.sizes
        ]

    def __len__(self) -> int:
        return len(self.photographs)

    def __getitem__(self, index: int) -> Pair:
        picture = self.photographs.crop(index, 0, 0, *self.sizes[index])
        return _pair(picture, self.cfa, self.sensor, rng(0, index, 0))


def _generator(index: int, variants: int | None) -> Generator:
    epoch = getattr(index, "epoch", 0)
    return rng(getattr(index, "seed", 0), index, epoch % variants if variants else epoch)


def _pair(picture: Tensor, cfa: CFA, sensor: Sensor | None, generator: Generator) -> Pair:
    mosaic = cfa.mosaic(picture[None])
    mosaic = mosaic if sensor is None else sensor(mosaic, generator, cfa)
    return cfa.to_input(mosaic)[0], picture


def _detail(picture: Tensor) -> float:
    """Return the mean squared difference of pixels to their right and lower neighbours, in green."""
    green = picture[1]
    return float((green.diff(dim=0) ** 2).mean() + (green.diff(dim=1) ** 2).mean())
