"""Two convolutional classifiers for small images: a residual network to teach, a plain one to learn.

Both have `levels`, whose level k works at 1 / 2^k of the image's height and width with 2^k times `width` channels, and
a `classifier` that scores the mean of the last map.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from compresskit.errors import RecipeError, ShapeError


class ResidualNet(nn.Module):
    """A first convolution, and levels of residual blocks.

    Args:
        width: Channels of level 0.
        levels: Number of levels.
        blocks: Residual blocks in each level.
        channels: Channels of an image.
        classes: Scores for each image.

    Raises:
        RecipeError: An option is below 1.

    Source: the block is that of He et al., *Deep Residual Learning for Image Recognition*, CVPR 2016, figure 2.
        https://arxiv.org/abs/1512.03385
    """

    def __init__(
        self, width: int = 32, *, levels: int = 3, blocks: int = 2, channels: int = 1, classes: int = 10
    ) -> None:
        super().__init__()
        _check(width=width, levels=levels, blocks=blocks, channels=channels, classes=classes)
        self.channels = channels
        self.stem = _convolution(channels, width)
        self.levels = nn.Sequential()
        for level in range(levels):
            inner = width * 2**level
            first = ResidualBlock(width, width) if level == 0 else ResidualBlock(inner // 2, inner, stride=2)
            self.levels.append(nn.Sequential(first, *(ResidualBlock(inner, inner) for _ in range(blocks - 1))))
        self.classifier = nn.Linear(width * 2 ** (levels - 1), classes)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Return scores (logits) of each class.

        Raises:
            ShapeError: The images have another number of channels.
        """
        _check_images(images, self.channels)
        return self.classifier(self.levels(self.stem(images)).mean((2, 3)))


class PlainNet(nn.Module):
    """One convolution a level, one after the other.

    Args:
        width: Channels of level 0.
        levels: Number of levels.
        channels: Channels of an image.
        classes: Scores for each image.

    Raises:
        RecipeError: An option is below 1.
    """

    def __init__(self, width: int = 4, *, levels: int = 3, channels: int = 1, classes: int = 10) -> None:
        super().__init__()
        _check(width=width, levels=levels, channels=channels, classes=classes)
        self.channels = channels
        self.levels = nn.Sequential(_convolution(channels, width))
        for level in range(1, levels):
            self.levels.append(_convolution(width * 2 ** (level - 1), width * 2**level, stride=2))
        self.classifier = nn.Linear(width * 2 ** (levels - 1), classes)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Return scores (logits) of each class.

        Raises:
            ShapeError: The images have another number of channels.
        """
        _check_images(images, self.channels)
        return self.classifier(self.levels(images).mean((2, 3)))


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, which is a 1 x 1 convolution if the shapes differ."""

    def __init__(self, before: int, after: int, *, stride: int = 1) -> None:
        super().__init__()
        self.first = _convolution(before, after, stride=stride)
        self.second = nn.Sequential(nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after))
        self.shortcut = nn.Sequential()
        if before != after or stride != 1:
            self.shortcut.extend([nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)])

    def forward(self, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        """Return the block's map, rectified."""
        return F.relu(self.second(self.first(features)) + self.shortcut(features))


def _convolution(before: int, after: int, *, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU())


def _check_images(images: Tensor, channels: int) -> None:
    if images.shape[1] != channels:
        raise ShapeError(f"this network is for images of {channels} channels, got a batch of {tuple(images.shape)}")


def _check(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise RecipeError(f"{name} must be a whole number of at least 1, got {value!r}")
