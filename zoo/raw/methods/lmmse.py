"""LMMSE-phase: the best linear demosaicing, with filters of its own for each place of the tile.

The strongest baseline here and the one that matters: 43,392 coefficients for QxQ, found in closed form within seconds.
It is also a good start for a network, which as `skip=` leaves it only what no linear filter can do.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from numpy.random import Generator
from torch import Tensor, nn

from compresskit.data import rng
from compresskit.errors import DataError
from zoo.raw.photographs.photographs import turned
from zoo.raw.sensor.cfa import CFA
from zoo.raw.sensor.sensor import Sensor

BATCH = 4096
"""Windows that a fit holds in memory at once."""


FIRST_SHARE = 4
"""The fit that only says how hard each photograph is looks at this many times fewer windows."""


NEGLIGIBLE = 1e-6
"""Mean squared error below which photographs count as equally easy."""


FLAT = 0.055
"""Contrast below which windows count as equally flat."""


@runtime_checkable
class Photographed(Protocol):
    """What `LMMSEPhase.fit_to` reads of a dataset: whole photographs, and the sensor that sees them."""

    @property
    def photographs(self) -> Sequence[Tensor]:
        """Pictures (3, height, width), each of its own size."""
        ...

    @property
    def sensor(self) -> Sensor | None:
        """The noise that mosaics have; None for none."""
        ...


class LMMSEPhase(nn.Module):
    """For each place in the CFA's tile, linear filters from the mosaic around it to red, green and blue.

    The filters minimise the squared error over photographs, by ridge regression in float64. A photograph counts in
    inverse proportion to the error that it has anyway, found by a first fit in which all count alike: a tenth less
    error is worth the same in an easy and in a hard one, as it is to the mean PSNR of pictures. Within a photograph a
    window counts in inverse proportion to its contrast. On Kodak's pictures both together are worth 0.3 dB. The filters
    are found by `fit_to` or `fit` and not by gradients: parameters that require none, so that they are counted, moved
    and saved.
    `forward` is one convolution, with the tile as its stride, and a pixel shuffle. Past its borders the mosaic goes on
    with copies of its outermost tiles, which keeps the phase; there the picture is some dB worse than inside.

    Args:
        cfa: The colour filter array, or its name.
        radius: A filter sees `2 * radius + 1` pixels each way.
        ridge: Added to the inputs' mean squares, for stability. Values are from 0 to 1.
        samples: How many windows, spread evenly over the photographs, a fit looks at. It bounds the fit's time.
    """

    place: Tensor

    def __init__(self, cfa: CFA | str = "qxq", *, radius: int = 7, ridge: float = 1e-6, samples: int = 65536) -> None:
        super().__init__()
        self.cfa = CFA.of(cfa)
        self.radius, self.ridge, self.samples = radius, ridge, samples
        period, side = self.cfa.period, 2 * radius + 1
        outputs = 3 * period**2
        self.coefficients = nn.Parameter(torch.full((outputs, side**2), torch.nan), requires_grad=False)
        self.offsets = nn.Parameter(torch.full((outputs,), torch.nan), requires_grad=False)
        self.fitted = False
        # where in the window of a whole tile the window of each place lies
        corners = _grid(period, period + 2 * radius)
        inside = _grid(side, period + 2 * radius)
        self.register_buffer("place", corners[:, None] + inside, persistent=False)
        self.register_load_state_dict_post_hook(_note_fit)

    def forward(self, packed: Float[Tensor, "n 4 h2 w2"]) -> Float[Tensor, "n 3 h w"]:
        """The picture (n, 3, h, w) of a packed mosaic, on the mosaic's scale and not clipped.

        Raises:
            DataError: There are no filters yet.
        """
        if not self.fitted and not packed.is_meta:
            raise DataError("LMMSEPhase has no filters yet: call fit_to(dataset) first, or load a fitted state")
        radius = self.radius
        mosaic = self.cfa.extend(self.cfa.unpack(packed), (radius, radius, radius, radius))
        colours = F.conv2d(mosaic, self._kernels(), self.offsets, stride=self.cfa.period)
        return F.pixel_shuffle(colours, self.cfa.period)

    def fit_to(self, dataset: object) -> None:
        """Find the filters for a dataset's whole photographs, as its sensor sees them.

        Args:
            dataset: Anything `Photographed`: with `photographs` and `sensor`, like `PhotographCrops`.

        Raises:
            DataError: The dataset has none; see `fit` for others.
        """
        if not isinstance(dataset, Photographed):
            raise DataError(
                f"LMMSEPhase is fitted to whole photographs, and {type(dataset).__name__} has no `photographs` and "
                "`sensor`; use zoo.raw.PhotographCrops, or call fit(pictures)"
            )
        self.fit(dataset.photographs, sensor=dataset.sensor)

    @torch.no_grad()
    def fit(self, photographs: Sequence[Float[Tensor, "3 _ _"]], *, sensor: Sensor | None = None) -> None:
        """Find the filters that restore these pictures from their mosaics with the least error.

        Windows are drawn at random places, the same in each fit, and shown in one of eight flips and turns each.

        Args:
            photographs: Pictures (3, height, width), each of its own size.
            sensor: Noise that the mosaics have, and the pictures have not.

        Raises:
            DataError: There are no photographs, or one is smaller than a window.
        """
        if len(photographs) == 0:
            raise DataError("LMMSEPhase cannot be fitted to no photographs")
        self._fit(photographs, sensor, self.samples // FIRST_SHARE, relative=False)
        self._fit(photographs, sensor, self.samples, relative=True)

    def _fit(self, photographs: Sequence[Tensor], sensor: Sensor | None, samples: int, *, relative: bool) -> None:
        inputs, outputs = (self.cfa.period + 2 * self.radius) ** 2 + 1, len(self.offsets)
        moments = torch.zeros(inputs, inputs, dtype=torch.float64)
        products = torch.zeros(inputs, outputs, dtype=torch.float64)
        total = 0.0
        for number, (windows, owners) in enumerate(_batches(self._windows(photographs, samples))):
            seen, wanted = self._pairs(windows, sensor, rng(1, number, 0))
            weights = self._weights(seen, wanted, owners) if relative else torch.ones(len(seen)).double()
            weighted = seen * weights[:, None]
            moments += weighted.T @ seen
            products += weighted.T @ wanted
            total += float(weights.sum())
        self._solve(moments / total, products / total)

    def _weights(
        self, seen: Float64[Tensor, "count inputs"], wanted: Float64[Tensor, "count outputs"], owners: Tensor
    ) -> Float64[Tensor, " count"]:
        """How much each window counts: less, the more error its photograph has so far and the more contrast it has."""
        kernels = self._kernels().flatten(1).double().cpu()
        found = seen[:, :-1] @ kernels.T + self.offsets.double().cpu()
        errors = (found - wanted).square().mean(dim=1)
        of_photograph = torch.bincount(owners, errors) / torch.bincount(owners).clamp(min=1)
        contrast = torch.sqrt(seen[:, :-1].var(dim=1) + FLAT**2)
        return 1 / ((of_photograph[owners] + NEGLIGIBLE) * contrast)

    @property
    def _margin(self) -> int:
        """Whole tiles around a tile, in pixels, that hold its window."""
        return -(-self.radius // self.cfa.period) * self.cfa.period

    def _windows(self, photographs: Sequence[Tensor], samples: int) -> Iterator[tuple[Tensor, int]]:
        """Some windows (count, 3, side, side), and the number of the photograph that they are of."""
        side = self.cfa.period + 2 * self._margin
        share = -(-samples // len(photographs))
        for index in range(len(photographs)):
            photograph, generator = photographs[index], rng(0, index, 0)
            free = [length - side + 1 for length in photograph.shape[1:]]
            if min(free) < 1:
                size = "x".join(map(str, photograph.shape[1:]))
                raise DataError(f"LMMSEPhase needs photographs of at least {side}x{side} pixels, got one of {size}")
            for start in range(0, share, BATCH):
                corners = [torch.from_numpy(generator.integers(0, most, min(BATCH, share - start))) for most in free]
                rows, columns = (corner[:, None] + torch.arange(side) for corner in corners)
                yield photograph[:, rows[:, :, None], columns[:, None, :]].transpose(0, 1), index

    def _pairs(
        self, windows: Tensor, sensor: Sensor | None, generator: Generator
    ) -> tuple[Float64[Tensor, "count inputs"], Float64[Tensor, "count outputs"]]:
        """The mosaic around each tile, with a last column of ones, and the tile's colours."""
        margin, period = self._margin, self.cfa.period
        windows = torch.cat([turned(part, way) for way, part in enumerate(windows.tensor_split(8))])
        mosaics = self.cfa.mosaic(windows)
        mosaics = mosaics if sensor is None else sensor(mosaics, generator, self.cfa)
        reach = slice(margin - self.radius, margin + period + self.radius)
        tile = slice(margin, margin + period)
        seen = F.pad(mosaics[:, 0, reach, reach].flatten(1).double(), (0, 1), value=1.0)
        return seen, windows[:, :, tile, tile].flatten(1).double()

    def _solve(self, moments: Float64[Tensor, "i i"], products: Float64[Tensor, "i outputs"]) -> None:
        places, last = self.place.cpu(), len(moments) - 1
        penalty = torch.full((len(moments),), self.ridge, dtype=torch.float64)
        used = F.pad(places, (0, 1), value=last)
        squares = (moments + penalty.diag())[used[:, :, None], used[:, None, :]]
        targets = products.unflatten(1, (3, -1)).permute(2, 0, 1)
        targets = targets.gather(1, used[:, :, None].expand(-1, -1, 3))
        filters = torch.cholesky_solve(targets, torch.linalg.cholesky(squares))
        by_output = filters.permute(2, 0, 1).flatten(0, 1)
        self.coefficients.copy_(by_output[:, :-1])
        self.offsets.copy_(by_output[:, -1])
        self.fitted = True

    def _kernels(self) -> Float[Tensor, "outputs 1 side side"]:
        period = self.cfa.period
        side = period + 2 * self.radius
        empty = self.coefficients.new_zeros(3 * period**2, side**2)
        return empty.scatter(1, self.place.repeat(3, 1), self.coefficients).unflatten(1, (1, side, side))

    def extra_repr(self) -> str:
        """The array and the window."""
        return f"{self.cfa}, radius={self.radius}"


def _grid(side: int, stride: int) -> Tensor:
    """Flat positions of a square of `side` at the corner of a square of `stride`."""
    return (torch.arange(side)[:, None] * stride + torch.arange(side)).flatten()


def _batches(parts: Iterable[tuple[Tensor, int]]) -> Iterator[tuple[Tensor, Tensor]]:
    """The same windows, at least `BATCH` together: many small products would take far longer than few large ones.

    With each window goes the number of its photograph.
    """
    waiting: list[Tensor] = []
    owners: list[int] = []
    for part, owner in parts:
        waiting.append(part)
        owners += [owner] * len(part)
        if len(owners) >= BATCH:
            yield torch.cat(waiting), torch.tensor(owners)
            waiting, owners = [], []
    if waiting:
        yield torch.cat(waiting), torch.tensor(owners)


def _note_fit(module: LMMSEPhase, _: object) -> None:
    module.fitted = bool(module.coefficients.isfinite().all())
