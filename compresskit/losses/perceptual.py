"""Perceptual distance: the features of two images in VGG-16, with weights from a local file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from compresskit.errors import CheckpointError, RecipeError, ShapeError, close_names, within
from compresskit.files import read_weights
from compresskit.losses.checks import same_size_images

_BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of VGG-16's convolutions; a 2 x 2 max pooling lies between two blocks."""
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and deviation by channel of the images that torchvision's weights were trained on."""


class Perceptual(nn.Module):
    """Mean squared difference between VGG-16 features of two images, averaged over layers.

    The network is fixed: it has no parameters, its weights are in no checkpoint, and both images pass through the same
    one. Nothing is ever downloaded.

    Args:
        weights: A .pth or .safetensors file of torchvision's VGG-16, such as `vgg16-397923af.pth`. The keys
            `features.0.weight` and so on are read.
        layers: Layers whose features are compared, by names such as "relu3_3": block and convolution, from 1. The
            default is the paper's for style transfer.

    Raises:
        RecipeError: A layer is unknown; the message names the nearest.
        CheckpointError: There is no such file, or it holds no VGG-16.

    Reference:
        Johnson, Alahi & Fei-Fei, *Perceptual Losses for Real-Time Style Transfer and Super-Resolution*, ECCV 2016,
        section 3.2. https://arxiv.org/abs/1603.08155
    """

    def __init__(self, *, weights: str | Path, layers: str | Sequence[str] = ("relu3_3",)) -> None:
        super().__init__()
        self.layers = (layers,) if isinstance(layers, str) else tuple(layers)
        names = list(_convolutions())
        if unknown := [layer for layer in self.layers if layer not in names]:
            raise RecipeError(f"perceptual: VGG-16 has no layer {unknown[0]!r}{close_names(str(unknown[0]), names)}")
        if not self.layers:
            raise RecipeError(f"perceptual: layers names none{close_names('', names)}")
        self._used = names[: 1 + max(map(names.index, self.layers))]
        state = _read(Path(weights))
        for name in self._used:
            for part, tensor in zip(("weight", "bias"), _parameters(name, state, weights), strict=True):
                self.register_buffer(f"{name}_{part}", tensor.float(), persistent=False)
        for name, values in (("mean", _MEAN), ("deviation", _DEVIATION)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, student: Float[Tensor, "*s"], target: Float[Tensor, "*t"]) -> Float[Tensor, ""]:
        """Compute the mean over layers.

        Args:
            student: RGB images from 0 to 1, (n, 3, h, w).
            target: Images of the same shape.

        Raises:
            ShapeError: The shapes differ, are not those of RGB images, or are too small for the layers.
        """
        poolings = sum(_is_pooled_before(name) for name in self._used)
        student, target = same_size_images(student, target, loss="perceptual", least=2**poolings)
        if student.shape[1] != 3:
            raise ShapeError(f"perceptual: it needs RGB images (n, 3, h, w), got {tuple(student.shape)}")
        with torch.autocast(student.device.type, enabled=False):
            sides = zip(self._features(student), self._features(target), strict=True)
            return torch.stack([F.mse_loss(one, other) for one, other in sides]).mean()

    def _features(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        features = (images - self._constant("mean", images)) / self._constant("deviation", images)
        compared = []
        for name in self._used:
            if _is_pooled_before(name):
                features = F.max_pool2d(features, 2)
            weight, bias = (self._constant(f"{name}_{part}", images) for part in ("weight", "bias"))
            features = F.conv2d(features, weight, bias, padding=1).relu()
            if name in self.layers:
                compared.append(features)
        return compared

    def _constant(self, name: str, images: Tensor) -> Tensor:
        return self.get_buffer(name).to(images.dtype)


def _is_pooled_before(name: str) -> bool:
    return name.endswith("_1") and name != "relu1_1"


def _convolutions() -> dict[str, tuple[int, tuple[int, ...]]]:
    """Return each convolution's number among torchvision's `features` and its shape, by the name of its ReLU."""
    convolutions, number, channels = {}, 0, 3
    for block, widths in enumerate(_BLOCKS, start=1):
        for place, width in enumerate(widths, start=1):
            convolutions[f"relu{block}_{place}"] = (number, (width, channels, 3, 3))
            number, channels = number + 2, width
        number += 1
    return convolutions


def _parameters(name: str, state: Mapping[str, Tensor], path: str | Path) -> tuple[Tensor, Tensor]:
    number, shape = _convolutions()[name]
    weight, bias = (state.get(f"features.{number}.{part}") for part in ("weight", "bias"))
    if weight is None or bias is None or weight.shape != shape:
        actual = "nothing" if weight is None else tuple(weight.shape)
        raise CheckpointError(
            f"perceptual: {path} is not torchvision's VGG-16: 'features.{number}.weight' should be {shape}, "
            f"got {actual}"
        )
    return weight, bias


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(
            f"perceptual: no file {str(path)!r}; it needs torchvision's VGG-16 weights in a local .pth or .safetensors "
            "file, because nothing is downloaded"
        )
    with within("perceptual"):
        return read_weights(path)
