"""Instance norm as a fixed part of the convolutions before it, so that a frame can be made tile by tile.

An instance norm takes mean and variance of each channel over its whole input, so a tile alone would come out unlike the
same place of the whole frame. There are two ways out, and both end in `fold`, a network without instance norm:

- `frame_statistics` are the frame's own, measured tile by tile: the picture is that of the whole frame. A norm can be
  measured when those before it are known, so there is one pass over the frame for each norm that lies behind another.
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
"""Mean and variance of each channel that an instance norm sees, by the name of the convolution before the norm."""


Window = tuple[slice, slice]
"""Rows and columns of packed planes: a tile without its surroundings."""


def instance_norms(network: nn.Module) -> dict[str, Convolution]:
    """Return the network's convolutions that have an instance norm, by name."""
    convolutions = {name: part for name, part in network.named_modules() if isinstance(part, Convolution)}
    return {name: part for name, part in convolutions.items() if part.instance is not None}


@torch.no_grad()
def fold(network: nn.Module, statistics: Statistics) -> nn.Module:
    """Return a copy without instance norm, whose convolutions do the norms' work with these statistics.

    Its weights load into the same network built without instance norm.
    """
    network = copy.deepcopy(network)
    for name, part in instance_norms(network).items():
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
    """Return the statistics of the instance norms over a whole frame, measured tile by tile.

    Args:
        network: A network whose norms all see the packed planes' resolution, as PyNET-QxQ's do.
        tiles: Function that goes once through the frame, called for each pass. It yields packed planes (1, 4, h, w)
            with their surroundings, and the part of them to measure.
    """
    network = copy.deepcopy(network).eval()
    meters = _install_meters(network)
    while not all(meter.known for meter in meters.values()):
        ready: list[_Meter] = []
        for packed, window in tiles():
            for meter in meters.values():
                meter.window, meter.counted = window, False
            _run_until_counted(network, packed, ready)
            ready = ready or [meter for meter in meters.values() if meter.counted]
        for meter in ready:
            meter.finish()
    return {name: (meter.mean, meter.variance) for name, meter in meters.items()}


@torch.no_grad()
def sample_statistics(network: nn.Module, samples: Iterable[Tensor]) -> dict[str, tuple]:
    """Return the statistics of the instance norms over samples (packed planes (n, 4, h, w)), pooled.

    The network normalises each sample by itself, as in training.
    """
    network = copy.deepcopy(network).eval()
    sums = {name: _ChannelSums() for name in instance_norms(network)}

    def add(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, inputs: sums[name].add(inputs[0])

    for name, part in instance_norms(network).items():
        assert part.instance is not None
        part.instance.register_forward_pre_hook(add(name))
    for packed in samples:
        network(packed)
    return {name: (each.mean, each.variance) for name, each in sums.items()}


@dataclass
class _ChannelSums:
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


class _PassComplete(Exception):  # noqa: N818  (no error: all that this pass can measure is measured)
    pass


class _Meter(nn.Module):
    """An instance norm's stand-in, whose output is NaN until its statistics are known.

    A norm behind it sees NaN, and so knows that it has to wait for a later pass.
    """

    def __init__(self, norm: nn.InstanceNorm2d) -> None:
        super().__init__()
        self.norm, self.sums = norm, _ChannelSums()
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


def _install_meters(network: nn.Module) -> dict[str, _Meter]:
    meters = {}
    for name, part in instance_norms(network).items():
        assert part.instance is not None
        meters[name] = _Meter(part.instance)
        part.add_module("instance", meters[name])
    return meters


def _run_until_counted(network: nn.Module, packed: Tensor, ready: list[_Meter]) -> None:
    """Run the network until the meters have all counted; to its end if there are none."""

    def stop_if_all() -> None:
        if all(meter.counted for meter in ready):
            raise _PassComplete

    for meter in ready:
        meter.report = stop_if_all
    with suppress(_PassComplete):
        network(packed)
