"""The pieces PyNET and PyNET-QxQ are made of. Attribute names are those of the released checkpoints."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compresskit.errors import ShapeError

SLOPE = 0.2
"""Negative slope of every leaky ReLU."""


def laid_out(features: Tensor, *, channels_last: bool) -> Tensor:
    """The same features in the layout that a CPU is faster with; on a GPU as they are.

    Convolutions, reflected borders and their gradients take less time with channels last. Not so instance norm, nor a
    convolution whose weights are many beside the pixels.
    """
    if features.device.type not in ("cpu", "meta"):  # what has no values stands for a CPU's
        return features
    return features.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def normalises(block: nn.Module) -> bool:
    """Whether there is an instance norm in it."""
    return any(isinstance(part, nn.InstanceNorm2d) for part in block.modules())


class InstanceNorm2d(nn.InstanceNorm2d):
    """torch's own, computed on a CPU as a group norm with a channel a group, which takes less time."""

    def forward(self, input: Tensor) -> Tensor:
        """From (n, c, h, w) to the same; each channel of each sample has a mean and a variance of its own."""
        if input.device.type != "cpu" or torch.compiler.is_exporting():  # other runtimes have an instance norm
            return super().forward(input)
        # with channels last, torch's group norm sums a whole map in one float32: 2e-3 off at a million pixels
        output = F.group_norm(input.contiguous(), self.num_features, self.weight, self.bias, self.eps)
        return laid_out(output, channels_last=not input.is_contiguous())


class Convolution(nn.Module):
    """A convolution over reflected borders, then optionally instance norm, then optionally a leaky ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, *, instance_norm: bool = False, activation: bool = True
    ) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, padding_mode="reflect")
        self.instance = InstanceNorm2d(outputs, affine=True) if instance_norm else None
        self.activation = activation

    def forward(self, features: Tensor) -> Tensor:
        """Same height and width, `outputs` channels."""
        features = self.conv2d(features)
        if self.instance is not None:
            features = self.instance(features)
        return F.leaky_relu(features, SLOPE) if self.activation else features


class MultiBlock(nn.Module):
    """Parallel pairs of convolutions, one pair for each odd kernel 3, 5, … `largest`, their outputs concatenated.

    It puts out `width` channels per pair: kernels up to 7 make `3 * width`.
    """

    def __init__(self, inputs: int, width: int, largest: int, *, instance_norm: bool = False) -> None:
        super().__init__()
        self.kernels = tuple(range(3, largest + 1, 2))
        for kernel in self.kernels:
            first = Convolution(inputs, width, kernel, instance_norm=instance_norm)
            second = Convolution(width, width, kernel, instance_norm=instance_norm)
            self.add_module(f"conv_{kernel}a", first)
            self.add_module(f"conv_{kernel}b", second)

    def forward(self, features: Tensor) -> Tensor:
        """Same height and width, `width` channels for each kernel, the smallest kernel first."""
        pairs = ((getattr(self, f"conv_{kernel}a"), getattr(self, f"conv_{kernel}b")) for kernel in self.kernels)
        return torch.cat([second(first(features)) for first, second in pairs], dim=1)


class UpLayer(nn.Module):
    """Twice the height and width, bilinearly, then a 3x3 convolution and a leaky ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="reflect")

    def forward(self, features: Tensor) -> Tensor:
        """From (n, inputs, h, w) to (n, outputs, 2h, 2w)."""
        features = F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=True)
        return F.leaky_relu(self.conv2d(features), SLOPE)


class ShuffleUp(nn.Module):
    """Twice the height and width by a convolution to four times the channels and a pixel shuffle; no activation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.upchannel = nn.Conv2d(width, 4 * width, 3, padding=1, padding_mode="reflect")

    def forward(self, features: Tensor) -> Tensor:
        """From (n, width, h, w) to (n, width, 2h, 2w)."""
        return F.pixel_shuffle(self.upchannel(features), 2)


class Head(nn.Module):
    """A convolution from features to a picture.

    Alone it ends in a sigmoid. Where a network corrects a skip, its output is unbounded, counts in units of local
    contrast, and starts at zero.
    """

    def __init__(self, inputs: int, *, corrects: bool = False) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(inputs, 3, 3, padding=1, padding_mode="reflect")
        if corrects:
            for parameter in self.conv2d.parameters():
                nn.init.zeros_(parameter)

    def forward(self, features: Tensor, picture: Tensor | None = None, unit: Tensor | None = None) -> Tensor:
        """From (n, inputs, h, w) to an RGB picture of the same size.

        Args:
            features: What the network knows.
            picture: The one to correct, if there is one.
            unit: What an output of 1 means, where there is a skip; a head without it ends in a sigmoid.
        """
        output = self.conv2d(laid_out(features, channels_last=True))  # to three channels: less than half the time
        output = laid_out(output, channels_last=False)
        if unit is None:
            return torch.sigmoid(output)
        return unit * output if picture is None else picture + unit * output


def check_packed(packed: Tensor, *, network: str, multiple: int, smallest: int) -> None:
    """Refuse packed planes of a size that a network cannot take.

    Args:
        packed: The network's input.
        network: Its name, for the message.
        multiple: What the planes' height and width must be multiples of.
        smallest: The least height and width.

    Raises:
        ShapeError: The input is not (n, 4, h, w), or h or w does not fit. The message gives the nearest sizes that do.
    """
    # a trace would warn that it keeps the answer, an export would ask for it as a constraint on the size
    tracing = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    if tracing or torch.compiler.is_compiling():
        return
    if packed.ndim != 4 or packed.shape[1] != 4:
        raise ShapeError(f"{network} takes packed planes (n, 4, height, width), got {tuple(packed.shape)}")
    height, width = packed.shape[2:]
    least = -(-smallest // multiple) * multiple
    if min(height, width) >= least and height % multiple == 0 and width % multiple == 0:
        return
    near = [max(least, -(-side // multiple) * multiple) for side in (height, width)]
    raise ShapeError(
        f"{network}: packed planes must be multiples of {multiple} and at least {least} high and wide, "
        f"got {height}x{width}; the next that fit are {near[0]}x{near[1]} (a mosaic of {2 * near[0]}x{2 * near[1]})"
    )
