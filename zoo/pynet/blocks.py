"""Building blocks of PyNET and PyNET-QxQ. Attribute names are those of the released checkpoints."""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compresskit.errors import ShapeError

SLOPE = 0.2
"""Negative slope of every leaky ReLU."""


def to_layout(features: Tensor, *, channels_last: bool) -> Tensor:
    """Return the features in a memory layout on a CPU, and unchanged on a GPU.

    Convolutions, reflected borders and their gradients take less time with channels last; instance norm does not, nor
    does a convolution with many weights and few pixels.
    """
    if features.device.type not in ("cpu", "meta"):  # meta tensors stand for a CPU's
        return features
    return features.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def has_instance_norm(block: nn.Module) -> bool:
    """Return whether a block contains an instance norm."""
    return any(isinstance(part, nn.InstanceNorm2d) for part in block.modules())


def leaky_relu(features: Tensor) -> Tensor:
    """Return the leaky ReLU of features."""
    features = F.leaky_relu(features, SLOPE)
    if features.dtype == torch.bfloat16 and features.requires_grad and not torch.compiler.is_compiling():
        features.register_hook(_without_gaps)
    return features


def _without_gaps(gradient: Tensor) -> Tensor:
    """Return the gradient without gaps between its pixels, which a slice of a concatenation's gradient has.

    Torch's leaky ReLU takes bfloat16 numbers one by one where a pixel has fewer than 32 of them between gaps.
    """
    return to_layout(gradient, channels_last=True) if gradient.stride(1) == 1 else gradient


def is_autocast(tensor: Tensor) -> bool:
    """Return whether autocast is on for a tensor's device."""
    device = tensor.device.type
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def without_autocast(tensor: Tensor) -> AbstractContextManager[object]:
    """Return the block in which operations on a tensor keep its type, whatever autocast is around it."""
    return torch.autocast(tensor.device.type, enabled=False) if is_autocast(tensor) else nullcontext()


class ReflectedConv2d(nn.Conv2d):
    """A convolution over reflected borders that keeps the size of odd kernels' inputs.

    On a CPU, autocast widens a tensor to float32 before it reflects its borders, and the convolution narrows it again.
    Reflection only moves values, so here it is done in the type that they have.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2, padding_mode="reflect")

    def forward(self, input: Tensor) -> Tensor:
        """Map features (n, inputs, h, w) to (n, outputs, h, w)."""
        border = self.kernel_size[0] // 2
        with without_autocast(input):
            padded = F.pad(input, (border,) * 4, mode="reflect")
        return F.conv2d(padded, self.weight, self.bias)


class InstanceNorm2d(nn.InstanceNorm2d):
    """torch's instance norm, computed on a CPU as a group norm of one channel a group, which takes less time."""

    def forward(self, input: Tensor) -> Tensor:
        """Return features (n, c, h, w) normalised by the mean and variance of each channel of each sample."""
        if input.device.type != "cpu" or torch.compiler.is_exporting():  # other runtimes have an instance norm
            return super().forward(input)
        # with channels last, torch's group norm sums a whole map in one float32: 2e-3 off at a million pixels
        output = F.group_norm(input.contiguous(), self.num_features, self.weight, self.bias, self.eps)
        return to_layout(output, channels_last=not input.is_contiguous())


class Convolution(nn.Module):
    """A convolution over reflected borders, then optionally instance norm, then optionally a leaky ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, *, instance_norm: bool = False, activation: bool = True
    ) -> None:
        super().__init__()
        self.conv2d = ReflectedConv2d(inputs, outputs, kernel)
        self.instance = InstanceNorm2d(outputs, affine=True) if instance_norm else None
        self.activation = activation

    def forward(self, features: Tensor) -> Tensor:
        """Return `outputs` channels of the same height and width."""
        features = self.conv2d(features)
        if self.instance is not None:
            features = self.instance(features)
        return leaky_relu(features) if self.activation else features


class MultiBlock(nn.Module):
    """Parallel pairs of convolutions, one pair for each odd kernel 3, 5, … `largest`, their outputs concatenated.

    Each pair has `width` output channels: kernels up to 7 make `3 * width`.
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
        """Return `width` channels for each kernel, the smallest kernel first, of the same height and width."""
        pairs = ((getattr(self, f"conv_{kernel}a"), getattr(self, f"conv_{kernel}b")) for kernel in self.kernels)
        return torch.cat([second(first(features)) for first, second in pairs], dim=1)


class UpLayer(nn.Module):
    """Bilinear up-sampling to twice the height and width, then a 3x3 convolution and a leaky ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv2d = ReflectedConv2d(inputs, outputs, 3)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (n, inputs, h, w) to (n, outputs, 2h, 2w)."""
        features = F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=True)
        return leaky_relu(self.conv2d(features))


class ShuffleUp(nn.Module):
    """Up-sampling to twice the height and width: a convolution to four times the channels, then a pixel shuffle."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.upchannel = ReflectedConv2d(width, 4 * width, 3)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (n, width, h, w) to (n, width, 2h, 2w)."""
        return F.pixel_shuffle(self.upchannel(features), 2)


class Head(nn.Module):
    """A convolution from features to a picture.

    It ends in a sigmoid. In a network that corrects a skip it has none: its output is unbounded, in units of local
    contrast, and starts at zero.
    """

    def __init__(self, inputs: int, *, corrects: bool = False) -> None:
        super().__init__()
        self.conv2d = ReflectedConv2d(inputs, 3, 3)
        if corrects:
            for parameter in self.conv2d.parameters():
                nn.init.zeros_(parameter)

    def forward(self, features: Tensor, picture: Tensor | None = None, unit: Tensor | None = None) -> Tensor:
        """Map features (n, inputs, h, w) to an RGB picture of the same size.

        Args:
            features: The network's last features.
            picture: The picture to correct, if there is one.
            unit: The size of an output of 1, if there is a skip; without it the head ends in a sigmoid.
        """
        output = self.conv2d(to_layout(features, channels_last=True))  # to three channels: less than half the time
        output = to_layout(output, channels_last=False)
        if unit is None:
            return torch.sigmoid(output)
        return unit * output if picture is None else picture + unit * output


def check_packed(packed: Tensor, *, network: str, multiple: int, smallest: int) -> None:
    """Refuse packed planes of a size that a network cannot take.

    Args:
        packed: The network's input.
        network: The network's name, for the message.
        multiple: The number that must divide the planes' height and width.
        smallest: The least height and width.

    Raises:
        ShapeError: The input is not (n, 4, h, w), or h or w does not fit. The message gives the nearest sizes that do.
    """
    # a trace would warn that it keeps the outcome, an export would demand it as a constraint on the size
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
