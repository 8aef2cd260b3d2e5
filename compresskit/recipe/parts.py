"""The parts of a run, built from the recipe's nodes: data, models, evaluation, and the stages of the control."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn
from torch.utils.data import default_collate

from compresskit import resolve
from compresskit.data import SampleLoader, own_randomness
from compresskit.distill.feed import unpack_batch
from compresskit.distill.match import Task
from compresskit.distill.stage import Stage
from compresskit.errors import DataError
from compresskit.recipe.load import Recipe
from compresskit.recipe.weights import load_weights


@dataclass(slots=True)
class Parts:
    """All that a run works on."""

    train: Any
    val: Any
    test: Any
    teacher: nn.Module | None
    student: nn.Module
    evaluation: Any
    baselines: dict[str, nn.Module]
    loaded: frozenset[str] = frozenset()
    """Which of teacher and student came with weights of their own."""

    def loader(self, recipe: Recipe, split: str, workers: int | None = None) -> SampleLoader:
        """Batches of `train`, shuffled, or of `val`, in order; as many workers as the recipe says, or so many."""
        return SampleLoader(
            getattr(self, split),
            recipe.data["batch_size"],
            seed=recipe.seed,
            workers=recipe.data["workers"] if workers is None else workers,
            shuffle=split == "train",
        )

    def sample(self) -> Any:
        """The inputs of one training sample, as a batch of one."""
        return unpack_batch(default_collate([self.train[0]]))[0]


def build_parts(recipe: Recipe) -> Parts:
    """Build what the recipe's nodes name. Models start from the recipe's seed, whatever was drawn before.

    Raises:
        CompressKitError: A node cannot be built, or weights do not fit; the message starts with the place.
    """
    data = {
        split: resolve.build(recipe.data[split], kind="dataset", where=f"data.{split}")
        for split in ("train", "val", "test")
        if recipe.data[split] is not None
    }
    for split, dataset in data.items():
        if len(dataset) == 0:
            raise DataError(f"data.{split}: {type(dataset).__name__} holds no samples")
    evaluation, baselines = None, {}
    if recipe.evaluate is not None:
        offered = {"dataset": data["test"]} if "test" in data else {}
        evaluation = resolve.build(recipe.evaluate, kind="evaluation", where="evaluate", **offered)
        baselines = dict(getattr(evaluation, "baselines", {}))
    return Parts(
        data["train"],
        data.get("val"),
        data.get("test"),
        None if recipe.teacher is None else build_model(recipe.teacher, "teacher", recipe.seed, 1),
        build_model(recipe.student, "student", recipe.seed, 2),
        evaluation,
        baselines,
        frozenset(
            title for title in ("teacher", "student") if (getattr(recipe, title) or {}).get("weights") is not None
        ),
    )


def control_stages(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """The same stages and steps without a teacher: a stage without tasks takes those of the last stage that has some.

    Where a stage trains what its matches reach (`upstream`, `between`), the student alone trains everything: there are
    no matches, and holding parameters back would only weaken it.
    """
    last = next(stage.tasks for stage in reversed(stages) if stage.tasks)
    return tuple(_without_matches(stage, last) for stage in stages)


def _without_matches(stage: Stage, tasks: Sequence[Task]) -> Stage:
    train = ("*",) if stage.train in ("upstream", "between") else stage.train
    return replace(stage, matches=(), tasks=stage.tasks or tasks, train=train)


def build_model(node: Mapping[str, Any], where: str, *seed: int) -> nn.Module:
    """The model of a node, with the weights that it names."""
    with own_randomness(*seed):
        model = resolve.build(
            {key: value for key, value in node.items() if key != "weights"}, kind="module", where=where
        )
    if node.get("weights") is not None:
        load_weights(model, node["weights"], where=f"{where}.weights")
    return model
