"""Handwritten digits of 8 x 8 pixels, from the scikit-learn wheel: data that needs no download."""

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from numpy.random import Generator
from torch import Tensor
from torch.utils.data import Dataset

from compresskit.data import rng
from compresskit.errors import RecipeError, close_names

Sample = tuple[Float[Tensor, "c 8 8"], Int[Tensor, ""]]

TEST, VAL = 60, 40
"""Number of images of each class in `test` and in `val`; the other 74 to 83 are `train`."""


class Digits(Dataset[Sample]):
    """Grey images of handwritten digits with labels: (image (channels, 8, 8), label), float32 in [0, 1] and int64.

    There are 1797 images. 60 images of each class are `test`, 40 are `val`, and the other 797 are `train`; `seed` alone
    decides which. All come from the same 13 writers, so a figure on `test` says nothing about new hands.

    The shift of an image depends on the run's seed, its index and its epoch alone; `compresskit.data.SampleId` carries
    them. With a plain index, as from a plain `DataLoader`, every epoch is the first.

    Args:
        split: `train`, `val` or `test`.
        per_class: Number of images of each class; None takes all. The images of a smaller number are among those of a
            larger one.
        shift: Most pixels by which an image is shifted, left or right and up or down. The border becomes black.
        channels: Number of times that the grey values are repeated: 3 for networks that take colours.
        seed: Seed of the split.
        variants: Number of epochs after which the same shifts come again; None makes every epoch new. Without a shift
            every epoch is the same, and it is 1.

    Raises:
        RecipeError: An option has an impossible value.

    Source: Alpaydin & Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine Learning Repository, 1998
        (its test set, as scikit-learn ships it). https://doi.org/10.24432/C50P49
    """

    classes = tuple("0123456789")

    def __init__(
        self,
        split: str = "train",
        *,
        per_class: int | None = None,
        shift: int = 0,
        channels: int = 1,
        seed: int = 0,
        variants: int | None = None,
    ) -> None:
        images, labels = _images_and_labels()
        indices = _split(labels, split, per_class, seed)
        if not 0 <= shift <= 7:
            raise RecipeError(f"shift must be from 0 to 7 pixels, got {shift!r}")
        if channels < 1:
            raise RecipeError(f"channels must be a whole number of at least 1, got {channels!r}")
        if variants is not None and variants < 1:
            raise RecipeError(f"variants must be a whole number of at least 1, got {variants!r}")
        self.images = torch.from_numpy(images[indices])[:, None].expand(-1, channels, -1, -1)
        self.labels = torch.from_numpy(labels[indices])
        self.shift = shift
        self.variants = variants if shift else 1

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        image = self.images[index]
        if self.shift:
            epoch = getattr(index, "epoch", 0)
            generator = rng(getattr(index, "seed", 0), index, epoch % self.variants if self.variants else epoch)
            image = _shift(image, self.shift, generator)
        return image, self.labels[index]


@cache
def _images_and_labels() -> tuple[np.ndarray, np.ndarray]:
    """Return all images, float32 in [0, 1], and their labels, in the file's order."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return (np.asarray(images).reshape(-1, 8, 8) / 16).astype(np.float32), np.asarray(labels).astype(np.int64)


def _split(labels: np.ndarray, split: str, per_class: int | None, seed: int) -> np.ndarray:
    """Return the indices of a split's images, in the file's order."""
    parts = {"train": slice(TEST + VAL, None), "val": slice(TEST, TEST + VAL), "test": slice(TEST)}
    if split not in parts:
        raise RecipeError(f"split: there is no {split!r}{close_names(split, parts)}")
    draw = np.random.default_rng(seed)
    of_class = [draw.permutation(np.flatnonzero(labels == label))[parts[split]] for label in np.unique(labels)]
    most = min(map(len, of_class))
    if per_class is not None and not 1 <= per_class <= most:
        raise RecipeError(f"per_class: {split!r} has {most} images of each class, got {per_class!r}")
    return np.sort(np.concatenate([images[:per_class] for images in of_class]))


def _shift(image: Tensor, most: int, generator: Generator) -> Tensor:
    """Return the image shifted by up to `most` pixels each way."""
    top, left = (int(generator.integers(2 * most + 1)) for _ in range(2))
    height, width = image.shape[-2:]
    padded = F.pad(image, (most, most, most, most))
    return padded[:, top : top + height, left : left + width]
