"""The components of a run, built from the recipe's nodes: data, models, evaluation, and the control's stages."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

from torch import nn

from compresskit import nodes
from compresskit.data import SampleLoader, load_sample, stacked
from compresskit.distill.batches import unpack_batch
from compresskit.distill.spec.address import HYBRID, STUDENT, TEACHER, split_model
from compresskit.distill.spec.goal import parse_goal
from compresskit.distill.spec.match import Task
from compresskit.distill.spec.stage import Stage
from compresskit.errors import DataError, KeyPath, at, first_line
from compresskit.evaluation import Evaluation, as_evaluation
from compresskit.files import load_weights
from compresskit.nested import call_model
from compresskit.randomness import own_randomness
from compresskit.recipe.reading.load import Recipe
from compresskit.recipe.reading.shipped import weights_path


class Viewed(nn.Module):
    """A model behind its view: it takes a batch's inputs and passes its view of them to the model."""

    def __init__(self, view: Any, model: nn.Module) -> None:
        super().__init__()
        self.view, self.model = view, model

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Return the model's output for its view of the inputs."""
        return call_model(self.model, self.view(named or (inputs[0] if len(inputs) == 1 else inputs)))


@dataclass(slots=True)
class Components:
    """The data, models and evaluation of a run."""

    train: Any
    val: Any
    test: Any
    teachers: dict[str, nn.Module]
    student: nn.Module
    views: dict[str, Any]
    evaluation: Evaluation | None
    baselines: dict[str, nn.Module]
    loaded: frozenset[str]
    """Names of the models whose weights were loaded."""
    collate: Callable[[list[Any]], Any]
    """Function that makes a batch of a list of samples."""

    def loader(self, recipe: Recipe, split: str, workers: int | None = None) -> SampleLoader:
        """Return a loader of `train`, shuffled, or of `val`, in order; None takes the recipe's number of workers."""
        return SampleLoader(
            getattr(self, split),
            recipe.data["batch_size"],
            seed=recipe.seed,
            workers=recipe.data["workers"] if workers is None else workers,
            shuffle=split == "train",
            collate_fn=self.collate,
        )

    def viewed(self, name: str, model: nn.Module) -> nn.Module:
        """Return the model behind the view that the recipe gives to models of that name, if it gives one."""
        return Viewed(self.views[name], model) if name in self.views else model

    def sample(self) -> Any:
        """Return the inputs of one training sample, as a batch of one."""
        return unpack_batch(self.collate([load_sample(self.train, 0)]))[0]


def build_components(recipe: Recipe) -> Components:
    """Build what the recipe's nodes name. Models start from the recipe's seed, whatever was drawn before.

    Raises:
        CompressKitError: A node cannot be built, or weights do not fit; the message starts with the place.
    """
    splits = [split for split in ("train", "val", "test") if recipe.data[split] is not None]
    data = {split: _dataset(recipe.data[split], split) for split in splits}
    evaluation, baselines = None, {}
    if recipe.evaluate is not None:
        offered = {"dataset": data["test"]} if "test" in data else {}
        with at("evaluate"):
            evaluation = as_evaluation(nodes.build(recipe.evaluate, kind="evaluation", **offered))
        baselines = dict(evaluation.baselines)
    models = {**recipe.teachers, STUDENT: recipe.student}
    return Components(
        data["train"],
        data.get("val"),
        data.get("test"),
        {name: build_model(recipe, name) for name in recipe.teachers},
        build_model(recipe, STUDENT),
        {name: _view(node, name) for name, node in recipe.views.items()},
        evaluation,
        baselines,
        frozenset(name for name, node in models.items() if node.get("weights") is not None),
        collate_of(recipe.data.get("collate")),
    )


def collate_of(node: Any) -> Callable[[list[Any]], Any]:
    """Return the function that makes a batch of a list of samples; None is the usual one.

    Raises:
        RecipeError: The node names no such function.
    """
    with at("data", "collate"):
        if node is None:
            return stacked
        return nodes.find(node, kind="callable") if isinstance(node, str) else nodes.build(node, kind="callable")


def build_model(recipe: Recipe, name: str) -> nn.Module:
    """Build a teacher by its name, or the student, with the weights that its node names.

    Raises:
        CompressKitError: The node cannot be built, or the weights do not fit; the message starts with the place.
    """
    if name == STUDENT:
        node, seed = recipe.student, (recipe.seed, 2)
    else:
        own = () if name == TEACHER else (crc32(name.encode()),)
        node, seed = recipe.teachers[name], (recipe.seed, 1, *own)
    with at(*model_path(name)):
        model = bare_model(node, *seed)
        if node.get("weights") is not None:
            with at("weights"):
                load_weights(model, weights_path(node["weights"]))
    return model


def bare_model(node: Mapping[str, Any], *seed: int) -> nn.Module:
    """Build the model of a node from a seed of its own, without the weights that the node may name.

    Raises:
        CompressKitError: The node cannot be built.
    """
    with own_randomness(*seed):
        return nodes.build({key: value for key, value in node.items() if key != "weights"}, kind="module")


def model_path(name: str) -> KeyPath:
    """Return the place of a model in a recipe, by its name."""
    return (name,) if name in (STUDENT, TEACHER) else (TEACHER, name)


def control_stages(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """Return the same stages and steps without a teacher.

    A stage without tasks takes those of the last stage that has some. A stage is left out if an assistant learns in it
    and the student does not. Where a stage trains what its matches reach (`upstream`, `between`), the student alone
    trains everything: there are no matches, and freezing parameters would only weaken it.
    """
    own = [
        (stage, [task for task in stage.tasks if all(map(is_student, task.students))])
        for stage in stages
        if _learns(stage)
    ]
    last = next(tasks for _, tasks in reversed(own) if tasks)
    return tuple(_without_matches(stage, tasks or last) for stage, tasks in own)


def is_student(address: str, *, through: bool = False) -> bool:
    """Return whether an address is in the student.

    Args:
        address: Address of a tap.
        through: Count the hybrid as well, through which the student learns.
    """
    name = split_model(address)[0]
    return name in ("", STUDENT) or (through and name == HYBRID)


def _dataset(node: Mapping[str, Any], split: str) -> Any:
    with at("data", split):
        dataset = nodes.build(node, kind="dataset")
        if _length(dataset) == 0:
            raise DataError(f"{type(dataset).__name__} holds no samples")
        return dataset


def _length(dataset: Any) -> int:
    try:
        return len(dataset)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{type(dataset).__name__} has no usable length: {first_line(error)}") from error


def _view(node: Mapping[str, Any], name: str) -> Any:
    with at("views", name):
        return nodes.build(node, kind="callable")


def _learns(stage: Stage) -> bool:
    """Return whether the student learns in a stage, and not only an assistant."""
    return any(is_student(text, through=True) for term in stage.terms.values() for text in term.students)


def _without_matches(stage: Stage, tasks: Sequence[Task]) -> Stage:
    """Return the stage for the student alone, without options of other models, of adapters, or of removed terms."""
    train = ("*",) if stage.train in ("upstream", "between") else _own(stage.train)
    return replace(
        stage,
        matches=(),
        splices=(),
        tasks=tasks,
        train=train or ("*",),
        freeze=_own(stage.freeze),
        groups={glob: stage.groups[glob] for glob in _own(stage.groups)},
        best=stage.best if stage.best is not None and _is_measured(stage.best, tasks) else None,
        until=stage.until if stage.until is not None and _is_measured(stage.until["plateau"], tasks) else None,
    )


def _own(globs: Iterable[str]) -> tuple[str, ...]:
    """Return the globs over the student's own parameters: others have a model, `adapter` or `loss` before a colon."""
    return tuple(glob for glob in globs if ":" not in glob)


def _is_measured(goal: str, tasks: Sequence[Task]) -> bool:
    return parse_goal(goal, "goal").metric in ("loss", *(task.name for task in tasks))
