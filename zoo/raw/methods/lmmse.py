"""LMMSE-phase: the best linear demosaicing, with filters of its own for each place of the tile.

The strongest baseline here and the one that matters: 43,392 coefficients for QxQ, fitted in closed form within seconds.
It is also a good start for a network: as its `skip=` it leaves the network only what no linear filter can do.
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
from zoo.raw.photographs.photographs import turn
from zoo.raw.sensor.cfa import CFA
from zoo.raw.sensor.sensor import Sensor

BATCH = 4096
"""Windows that a fit holds in memory at once."""


FIRST_SHARE = 4
"""Factor by which the first fit, which only measures how hard each photograph is, takes fewer windows."""


NEGLIGIBLE = 1e-6
"""Mean squared error below which photographs count as equally easy."""


FLAT = 0.055
"""Contrast below which windows count as equally flat."""


@runtime_checkable
class PhotographDataset(Protocol):
    """A dataset that `LMMSEPhase.fit_to` can read: whole photographs, and the sensor that sees them."""

    @property
    def photographs(self) -> Sequence[Tensor]:
        """Pictures (3, height, width), each of its own size."""
        ...

    @property
    def sensor(self) -> Sensor | None:
        """The noise of the mosaics; None for none."""
        ...


class LMMSEPhase(nn.Module):
    """Linear filters from the mosaic around each place in the CFA's tile to red, green and blue.

    The filters minimise the squared error over photographs, by ridge regression in float64. A photograph is weighted by
    the inverse of the error that remains after a first fit with equal weights: a tenth less error is worth the same in
    an easy and in a hard one, as it is to the mean PSNR of pictures. Within a photograph a window is weighted by the
    inverse of its contrast. On Kodak's pictures both together are worth 0.3 dB. The filters come from `fit_to` or `fit`
    and not from gradients; they are parameters that require none, so that they are counted, moved and saved.

    `forward` is one convolution, with the tile as its stride, and a pixel shuffle. Past its borders the mosaic
    continues with copies of its outermost tiles, which keeps the phase; there the picture is some dB worse than inside.

    Args:
        cfa: The colour filter array, or its name.
        radius: Radius of a filter's window, which is `2 * radius + 1` pixels wide and high.
        ridge: Number added to the inputs' mean squares, for stability. Values are from 0 to 1.
        samples: Number of windows that a fit takes, spread evenly over the photographs. It bounds the fit's time.
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
        # the positions of each place's window in the window of a whole tile
        corners = _grid(period, period + 2 * radius)
        offsets = _grid(side, period + 2 * radius)
        self.register_buffer("place", corners[:, None] + offsets, persistent=False)
        self.register_load_state_dict_post_hook(_note_fit)

    def forward(self, packed: Float[Tensor, "n planes h2 w2"]) -> Float[Tensor, "n 3 h w"]:
        """Demosaic packed mosaics to pictures (n, 3, h, w), on the mosaic's scale and without clipping.

        Raises:
            DataError: There are no filters yet.
        """
        if not self.fitted and not packed.is_meta:
            raise DataError("LMMSEPhase has no filters yet: call fit_to(dataset) first, or load a fitted state")
        radius = self.radius
        mosaic = self.cfa.extend(self.cfa.from_input(packed), (radius, radius, radius, radius))
        colours = F.conv2d(mosaic, self._kernels(), self.offsets, stride=self.cfa.period)
        return F.pixel_shuffle(colours, self.cfa.period)

    def fit_to(self, dataset: object) -> None:
        """Fit the filters to a dataset's whole photographs, as its sensor sees them.

        Args:
            dataset: A dataset with `photographs` and `sensor`, like `PhotographCrops`.

        Raises:
            DataError: The dataset has none; see `fit` for others.
        """
        if not isinstance(dataset, PhotographDataset):
            raise DataError(
                f"LMMSEPhase is fitted to whole photographs, and {type(dataset).__name__} has no `photographs` and "
                "`sensor`; use zoo.raw.PhotographCrops, or call fit(pictures)"
            )
        self.fit(dataset.photographs, sensor=dataset.sensor)

    @torch.no_grad()
    def fit(self, photographs: Sequence[Float[Tensor, "3 _ _"]], *, sensor: Sensor | None = None) -> None:
        """Fit the filters that restore these pictures from their mosaics with the least error.

        Windows lie at random places, the same in each fit, and each is shown in one of eight flips and turns.

        Args:
            photographs: Pictures (3, height, width), each of its own size.
            sensor: Noise of the mosaics; the pictures have none.

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
            mosaics, colours = self._pairs(windows, sensor, rng(1, number, 0))
            weights = self._weights(mosaics, colours, owners) if relative else torch.ones(len(mosaics)).double()
            weighted = mosaics * weights[:, None]
            moments += weighted.T @ mosaics
            products += weighted.T @ colours
            total += float(weights.sum())
        self._solve(moments / total, products / total)

    def _weights(
        self, mosaics: Float64[Tensor, "count inputs"], colours: Float64[Tensor, "count outputs"], owners: Tensor
    ) -> Float64[Tensor, " count"]:
        """Return each window's weight: small if its photograph has much error so far, or the window much contrast."""
        kernels = self._kernels().flatten(1).double().cpu()
        estimates = mosaics[:, :-1] @ kernels.T + self.offsets.double().cpu()
        errors = (estimates - colours).square().mean(dim=1)
        photograph_errors = torch.bincount(owners, errors) / torch.bincount(owners).clamp(min=1)
        contrast = torch.sqrt(mosaics[:, :-1].var(dim=1) + FLAT**2)
        return 1 / ((photograph_errors[owners] + NEGLIGIBLE) * contrast)

    @property
    def _margin(self) -> int:
        """Width in pixels of the whole tiles around a tile that hold its window."""
        return -(-self.radius // self.cfa.period) * self.cfa.period

    def _windows(self, photographs: Sequence[Tensor], samples: int) -> Iterator[tuple[Tensor, int]]:
        """Yield windows (count, 3, side, side), and the number of their photograph."""
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
        """Return the mosaic around each tile, with a last column of ones, and the tile's colours."""
        margin, period = self._margin, self.cfa.period
        windows = torch.cat([turn(part, way) for way, part in enumerate(windows.tensor_split(8))])
        mosaics = self.cfa.mosaic(windows)
        mosaics = mosaics if sensor is None else sensor(mosaics, generator, self.cfa)
        reach = slice(margin - self.radius, margin + period + self.radius)
        tile = slice(margin, margin + period)
        inputs = F.pad(mosaics[:, 0, reach, reach].flatten(1).double(), (0, 1), value=1.0)
        return inputs, windows[:, :, tile, tile].flatten(1).double()

    def _solve(self, moments: Float64[Tensor, "i i"], products: Float64[Tensor, "i outputs"]) -> None:
        places, last = self.place.cpu(), len(moments) - 1
        penalty = torch.full((len(moments),), self.ridge, dtype=torch.float64)
        inputs = F.pad(places, (0, 1), value=last)
        squares = (moments + penalty.diag())[inputs[:, :, None], inputs[:, None, :]]
        targets = products.unflatten(1, (3, -1)).permute(2, 0, 1)
        targets = targets.gather(1, inputs[:, :, None].expand(-1, -1, 3))
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
        """Return the array and the window."""
        return f"{self.cfa}, radius={self.radius}"


def _grid(side: int, stride: int) -> Tensor:
    """Return the flat positions of a square of `side` at the corner of a square of `stride`."""
    return (torch.arange(side)[:, None] * stride + torch.arange(side)).flatten()


def _batches(parts: Iterable[tuple[Tensor, int]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the same windows, at least `BATCH` together: few large products take far less time than many small ones.

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
