"""Instance norm made a fixed part of the convolutions before it, so that a frame can be made tile by tile.

An instance norm takes mean and variance of each channel over all that it sees, so a tile alone would come out unlike
the same place of the whole frame. Two ways out, both of which end in `folded`, a network without instance norm:

- `frame_statistics` are the frame's own, measured tile by tile: the picture is that of the whole frame. A norm can be
  measured when those before it are known, so a frame is gone through once for each norm that lies behind another.
- `sample_statistics` are those of samples such as training crops, pooled: measured once, kept with the weights.
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.pynet.blocks import Convolution

Statistics = Mapping[str, tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]]
"""Mean and variance of each channel that an instance norm sees, by the name of the convolution it belongs to."""


Window = tuple[slice, slice]
"""Rows and columns of the packed planes to count, of a tile with its surroundings."""


def normalised(network: nn.Module) -> dict[str, Convolution]:
    """The network's convolutions that have an instance norm, by name."""
    convolutions = {name: part for name, part in network.named_modules() if isinstance(part, Convolution)}
    return {name: part for name, part in convolutions.items() if part.instance is not None}


@torch.no_grad()
def folded(network: nn.Module, statistics: Statistics) -> nn.Module:
    """A copy without instance norm, whose convolutions do what the norms did with these statistics.

    Its weights load into the same network made without instance norm.
    """
    network = copy.deepcopy(network)
    for name, part in normalised(network).items():
        norm, convolution = part.instance, part.conv2d
        assert norm is not None
        assert convolution.bias is not None
        mean, variance = (each.to(norm.weight.device, torch.float64) for each in statistics[name])
        scale = norm.weight.double() / (variance + norm.eps).sqrt()
        bias = (convolution.bias.double() - mean) * scale + norm.bias.double()
        convolution.weight.copy_(convolution.weight.double() * scale[:, None, None, None])
        convolution.bias.copy_(bias)
        part.instance = None
    return network


@torch.no_grad()
def frame_statistics(network: nn.Module, tiles: Callable[[], Iterable[tuple[Tensor, Window]]]) -> dict[str, tuple]:
    """What the instance norms would see of a whole frame, measured tile by tile.

    Args:
        network: Its norms all see the packed planes' resolution, as PyNET-QxQ's do.
        tiles: Goes through the frame: packed planes (1, 4, h, w) with their surroundings, and which part to count. It
            is called once for each pass.
    """
    network = copy.deepcopy(network).eval()
    meters = _metered(network)
    while not all(meter.known for meter in meters.values()):
        counted: list[_Meter] = []
        for packed, window in tiles():
            for meter in meters.values():
                meter.window, meter.counted = window, False
            _until_counted(network, packed, counted)
            counted = counted or [meter for meter in meters.values() if meter.counted]
        for meter in counted:
            meter.finish()
    return {name: (meter.mean, meter.variance) for name, meter in meters.items()}


@torch.no_grad()
def sample_statistics(network: nn.Module, samples: Iterable[Tensor]) -> dict[str, tuple]:
    """What the instance norms see of samples (packed planes (n, 4, h, w)), each normalised by itself, pooled."""
    network = copy.deepcopy(network).eval()
    sums = {name: _Sums() for name in normalised(network)}

    def add(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, inputs: sums[name].add(inputs[0])

    for name, part in normalised(network).items():
        assert part.instance is not None
        part.instance.register_forward_pre_hook(add(name))
    for packed in samples:
        network(packed)
    return {name: (each.mean, each.variance) for name, each in sums.items()}


@dataclass
class _Sums:
    """Sums over pixels, by channel, in float64."""

    count: int = 0
    first: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    second: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))

    def add(self, features: Float[Tensor, "n c h w"]) -> None:
        values = features.double()
        self.count += values[:, 0].numel()
        self.first = self.first + values.sum((0, 2, 3)).cpu()
        self.second = self.second + values.square().sum((0, 2, 3)).cpu()

    @property
    def mean(self) -> Float[Tensor, " c"]:
        return self.first / self.count

    @property
    def variance(self) -> Float[Tensor, " c"]:
        return (self.second / self.count - self.mean.square()).clamp(min=0)


class _Counted(Exception):  # noqa: N818  (no error: all that this pass can measure is measured)
    pass


class _Meter(nn.Module):
    """Stands in for an instance norm until its statistics are known. Until then NaN comes out of it.

    So a norm that lies behind it sees NaN and knows that it has to wait.
    """

    def __init__(self, norm: nn.InstanceNorm2d) -> None:
        super().__init__()
        self.norm, self.sums = norm, _Sums()
        self.known = self.counted = False
        self.window: Window = (slice(None), slice(None))
        self.report: Callable[[], None] = lambda: None

    def forward(self, features: Tensor) -> Tensor:
        if self.known:
            mean, variance = self.mean.to(features), self.variance.to(features)
            return nn.functional.batch_norm(
                features, mean, variance, self.norm.weight, self.norm.bias, eps=self.norm.eps
            )
        if features.isnan().any():
            return features
        self.sums.add(features[(..., *self.window)])
        self.counted = True
        self.report()
        return torch.full_like(features, torch.nan)

    def finish(self) -> None:
        self.mean, self.variance, self.known = self.sums.mean, self.sums.variance, True


def _metered(network: nn.Module) -> dict[str, _Meter]:
    meters = {}
    for name, part in normalised(network).items():
        assert part.instance is not None
        meters[name] = _Meter(part.instance)
        part.add_module("instance", meters[name])
    return meters


def _until_counted(network: nn.Module, packed: Tensor, wanted: list[_Meter]) -> None:
    """Run the network until all wanted meters have counted; with none wanted, to its end."""

    def stop_if_all() -> None:
        if all(meter.counted for meter in wanted):
            raise _Counted

    for meter in wanted:
        meter.report = stop_if_all
    with suppress(_Counted):
        network(packed)
