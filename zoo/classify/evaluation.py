"""Classifiers measured on labelled images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from compresskit.errors import RecipeError, ShapeError
from compresskit.evaluation import Evaluation
from compresskit.nested import device_of
from compresskit.restore import preserve_state


class ClassificationEvaluation(Evaluation):
    """Accuracy and cross entropy of a classifier, for each image and on average.

    A model is any module from images (n, ...) to scores (n, classes). It runs on the device of its parameters, in eval
    mode and without gradients, and returns to its own mode afterwards. Accuracy is the per cent of images whose highest
    score is that of their label, so for one image it is 0 or 100; cross entropy is in nats.

    Args:
        dataset: Pairs of an image and the number of its class. Its attribute `classes`, if there is one, names the
            classes in pictures.
        batch_size: Images in one forward.
        illustrations: Largest number of images to draw.

    Raises:
        RecipeError: An option has an impossible value.
    """

    dataset: Dataset[Any]
    units: Mapping[str, str] = {"accuracy": "%", "cross_entropy": "nats"}
    lower_is_better = ("cross_entropy",)

    def __init__(self, dataset: Dataset[Any], *, batch_size: int = 256, illustrations: int = 12) -> None:
        if batch_size < 1 or illustrations < 0:
            raise RecipeError("batch_size must be at least 1 and illustrations at least 0")
        super().__init__(dataset)
        self.batch_size = batch_size
        self.illustrations = illustrations

    def per_sample(self, model: nn.Module) -> dict[str, list[float]]:
        """Return each metric of each image, in the order of the dataset.

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
        """Return the model's scores of all images, on the CPU in float32, and the labels."""
        device = device_of(model)
        scores, labels = [], []
        with preserve_state(model), torch.no_grad():
            model.eval()
            for images, target in DataLoader(self.dataset, self.batch_size):
                scores.append(_checked(model(images.to(device)), target).float().cpu())
                labels.append(target)
        return torch.cat(scores), torch.cat(labels)

    def illustrate(self, models: Mapping[str, nn.Module], folder: Path) -> None:
        """Draw `mistakes.png`: the images that most models classify wrongly; nothing if every answer is right."""
        from zoo.classify.pictures import draw_answers

        answers, labels = {}, []
        for name, model in models.items():
            scores, truth = self.scores(model)
            answers[name], labels = scores.argmax(1).tolist(), truth.tolist()
        mistakes = [sum(classes[index] != label for classes in answers.values()) for index, label in enumerate(labels)]
        worst = sorted((index for index, count in enumerate(mistakes) if count), key=lambda index: -mistakes[index])
        worst = worst[: self.illustrations]
        if worst:
            folder.mkdir(parents=True, exist_ok=True)
            rows = {name: [self._name(classes[index]) for index in worst] for name, classes in answers.items()}
            images = [self.dataset[index][0] for index in worst]
            draw_answers(images, [self._name(labels[index]) for index in worst], rows).save(folder / "mistakes.png")

    def _name(self, label: int) -> str:
        classes = getattr(self.dataset, "classes", ())
        return str(classes[label]) if label < len(classes) else str(label)


def _checked(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the scores if there is one for each image and class."""
    if scores.ndim != 2 or len(scores) != len(labels) or scores.shape[1] <= int(labels.max()):
        raise ShapeError(
            f"a classifier gives {len(labels)} images scores of shape ({len(labels)}, classes), with more than "
            f"{int(labels.max())} classes; this one gave {tuple(scores.shape)}"
        )
    return scores
