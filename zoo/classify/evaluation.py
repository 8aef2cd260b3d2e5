"""Classifiers measured on labelled images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from compresskit.errors import RecipeError, ShapeError
from compresskit.nested import device_of
from compresskit.restore import preserve_state


class ClassificationEvaluation:
    """Accuracy and cross entropy of a classifier, for each image and on average.

    A model is any module from images (n, ...) to scores (n, classes). It runs where its parameters are, in eval mode
    and without gradients, and is given back in the mode it came in. Accuracy is the per cent of images whose highest
    score is that of their label, so of one image it is 0 or 100; cross entropy is in nats.

    Args:
        dataset: Pairs of an image and the number of its class. Names in its attribute `classes` are shown in pictures.
        batch_size: Images in one forward.
        illustrations: Most images to draw.

    Raises:
        RecipeError: An option has an impossible value.
    """

    units: ClassVar[Mapping[str, str]] = {"accuracy": "%", "cross_entropy": "nats"}
    lower_is_better: ClassVar[Sequence[str]] = ("cross_entropy",)

    def __init__(self, dataset: Dataset[Any], *, batch_size: int = 256, illustrations: int = 12) -> None:
        if batch_size < 1 or illustrations < 0:
            raise RecipeError("batch_size must be at least 1 and illustrations at least 0")
        self.dataset = dataset
        self.batch_size = batch_size
        self.illustrations = illustrations

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Each metric's mean over the images."""
        return {name: fmean(values) for name, values in self.per_sample(model).items()}

    def per_sample(self, model: nn.Module) -> dict[str, list[float]]:
        """Each metric of each image, in the dataset's order.

        Raises:
            ShapeError: The model does not give each image a score for each class.
        """
        scores, labels = self.scores(model)
        right = scores.argmax(1) == labels
        return {
            "accuracy": (100.0 * right).tolist(),
            "cross_entropy": F.cross_entropy(scores, labels, reduction="none").tolist(),
        }

    def scores(self, model: nn.Module) -> tuple[Float[Tensor, "n classes"], Int[Tensor, " n"]]:
        """What the model says of every image, on the CPU in float32, and the labels."""
        place = device_of(model)
        found, labels = [], []
        with preserve_state(model), torch.no_grad():
            model.eval()
            for images, target in DataLoader(self.dataset, self.batch_size):
                found.append(_checked(model(images.to(place)), target).float().cpu())
                labels.append(target)
        return torch.cat(found), torch.cat(labels)

    def illustrate(self, models: Mapping[str, nn.Module], folder: Path) -> None:
        """`mistakes.png`: the images that most models take for something else; none where every answer is right."""
        from zoo.classify.pictures import draw_answers

        answers, labels = {}, []
        for name, model in models.items():
            scores, truth = self.scores(model)
            answers[name], labels = scores.argmax(1).tolist(), truth.tolist()
        wrong = [sum(given[index] != label for given in answers.values()) for index, label in enumerate(labels)]
        worst = sorted((index for index, count in enumerate(wrong) if count), key=lambda index: -wrong[index])
        shown = worst[: self.illustrations]
        if shown:
            folder.mkdir(parents=True, exist_ok=True)
            rows = {name: [self._name(given[index]) for index in shown] for name, given in answers.items()}
            images = [self.dataset[index][0] for index in shown]
            draw_answers(images, [self._name(labels[index]) for index in shown], rows).save(folder / "mistakes.png")

    def _name(self, label: int) -> str:
        classes = getattr(self.dataset, "classes", ())
        return str(classes[label]) if label < len(classes) else str(label)


def _checked(scores: Tensor, labels: Tensor) -> Tensor:
    if scores.ndim != 2 or len(scores) != len(labels) or scores.shape[1] <= int(labels.max()):
        raise ShapeError(
            f"a classifier gives {len(labels)} images scores of shape ({len(labels)}, classes), with more than "
            f"{int(labels.max())} classes; this one gave {tuple(scores.shape)}"
        )
    return scores
