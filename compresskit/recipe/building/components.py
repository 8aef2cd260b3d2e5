"""The parts of a run, built from the recipe's nodes: data, models, evaluation, and the stages of the control."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

from torch import nn
from torch.utils.data import default_collate

from compresskit import nodes
from compresskit.data import SampleLoader
from compresskit.distill.batches import unpack_batch
from compresskit.distill.spec.address import HYBRID, STUDENT, TEACHER, split_model
from compresskit.distill.spec.goal import parse_goal
from compresskit.distill.spec.match import Task
from compresskit.distill.spec.stage import Stage
from compresskit.distill.taps.taps import call_model
from compresskit.errors import DataError, KeyPath, at
from compresskit.evaluation import Evaluation, as_evaluation
from compresskit.randomness import own_randomness
from compresskit.recipe.building.weights import load_weights
from compresskit.recipe.reading.load import Recipe


class Viewed(nn.Module):
    """A model behind its view: what it is called with is the batch's inputs."""

    def __init__(self, view: Any, model: nn.Module) -> None:
        super().__init__()
        self.view, self.model = view, model

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """What the model makes of its view of the inputs."""
        return call_model(self.model, self.view(named or (inputs[0] if len(inputs) == 1 else inputs)))


@dataclass(slots=True)
class Parts:
    """All that a run works on."""

    train: Any
    val: Any
    test: Any
    teachers: dict[str, nn.Module]
    student: nn.Module
    views: dict[str, Any]
    evaluation: Evaluation | None
    baselines: dict[str, nn.Module]
    loaded: frozenset[str] = frozenset()
    """Which of the models, by name, came with weights of their own."""

    def loader(self, recipe: Recipe, split: str, workers: int | None = None) -> SampleLoader:
        """Batches of `train`, shuffled, or of `val`, in order; as many workers as the recipe says, or so many."""
        return SampleLoader(
            getattr(self, split),
            recipe.data["batch_size"],
            seed=recipe.seed,
            workers=recipe.data["workers"] if workers is None else workers,
            shuffle=split == "train",
        )

    def viewed(self, name: str, model: nn.Module) -> nn.Module:
        """The model as the data has to meet it: behind the view that the recipe gives to models of that name."""
        return Viewed(self.views[name], model) if name in self.views else model

    def sample(self) -> Any:
        """The inputs of one training sample, as a batch of one."""
        return unpack_batch(default_collate([self.train[0]]))[0]


def build_parts(recipe: Recipe) -> Parts:
    """Build what the recipe's nodes name. Models start from the recipe's seed, whatever was drawn before.

    Raises:
        CompressKitError: A node cannot be built, or weights do not fit; the message starts with the place.
    """
    data = {
        split: _dataset(recipe.data[split], split)
        for split in ("train", "val", "test")
        if recipe.data[split] is not None
    }
    evaluation, baselines = None, {}
    if recipe.evaluate is not None:
        offered = {"dataset": data["test"]} if "test" in data else {}
        with at("evaluate"):
            evaluation = as_evaluation(nodes.build(recipe.evaluate, kind="evaluation", **offered))
        baselines = dict(evaluation.baselines)
    return Parts(
        data["train"],
        data.get("val"),
        data.get("test"),
        {name: build_model(recipe, name) for name in recipe.teachers},
        build_model(recipe, STUDENT),
        {name: _view(node, name) for name, node in recipe.views.items()},
        evaluation,
        baselines,
        frozenset(
            name
            for name, node in {**recipe.teachers, STUDENT: recipe.student}.items()
            if node.get("weights") is not None
        ),
    )


def build_model(recipe: Recipe, name: str) -> nn.Module:
    """A teacher by its name, or the student, with the weights that its node names.

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
                load_weights(model, node["weights"])
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


def _dataset(node: Mapping[str, Any], split: str) -> Any:
    with at("data", split):
        dataset = nodes.build(node, kind="dataset")
        if len(dataset) == 0:
            raise DataError(f"{type(dataset).__name__} holds no samples")
        return dataset


def _view(node: Mapping[str, Any], name: str) -> Any:
    with at("views", name):
        return nodes.build(node, kind="callable")


def control_stages(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """The same stages and steps without a teacher: a stage without tasks takes those of the last stage that has some.

    A stage in which not the student learns but an assistant falls away. Where a stage trains what its matches reach
    (`upstream`, `between`), the student alone trains everything: there are no matches, and holding parameters back
    would only weaken it.
    """
    own = [(stage, [task for task in stage.tasks if is_student(task.student)]) for stage in stages if _learns(stage)]
    last = next(tasks for _, tasks in reversed(own) if tasks)
    return tuple(_without_matches(stage, tasks or last) for stage, tasks in own)


def _learns(stage: Stage) -> bool:
    """Whether the student learns in a stage: in others an assistant may."""
    return any(is_student(text, through=True) for term in stage.terms.values() for text in term.students)


def is_student(address: str, *, through: bool = False) -> bool:
    """Whether an address is in the student, or if asked in the hybrid, through which the student learns."""
    name = split_model(address)[0]
    return name in ("", STUDENT) or (through and name == HYBRID)


def _without_matches(stage: Stage, tasks: Sequence[Task]) -> Stage:
    """The stage for the student alone: without whatever belongs to other models, adapters, or terms that are gone."""
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
    """Those over the student's own parameters: others name a model, `adapter` or `loss` before a colon."""
    return tuple(glob for glob in globs if ":" not in glob)


def _is_measured(goal: str, tasks: Sequence[Task]) -> bool:
    return parse_goal(goal, "goal").metric in ("loss", *(task.name for task in tasks))
