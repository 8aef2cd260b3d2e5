"""The parts of a run, built from the recipe's nodes: data, models, evaluation, and the stages of the control."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor, nn
from torch.utils.data import default_collate

from compresskit import resolve
from compresskit.data import SampleLoader, own_randomness
from compresskit.distill.checkpoint import write_atomically
from compresskit.distill.feed import unpack_batch
from compresskit.distill.stage import Stage, Task
from compresskit.errors import CheckpointError, DataError
from compresskit.recipe.load import Recipe
from compresskit.recipe.weights import load_weights, read_weights


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
        None if recipe.teacher is None else _model(recipe.teacher, "teacher", recipe.seed, 1),
        _model(recipe.student, "student", recipe.seed, 2),
        evaluation,
        baselines,
    )


def fit_to_data(parts: Parts, seed: int) -> dict[str, Tensor]:
    """Show the training data to whatever is solved in closed form instead of being trained, and return what it learned.

    That is every module inside the models and the baselines, and the evaluation itself, that has a method `fit_to`.
    """
    with own_randomness(seed, 3):
        if hasattr(parts.evaluation, "fit_to"):
            parts.evaluation.fit_to(parts.train)
        fitted = dict(_solvers(parts))
        for module in fitted.values():
            module.fit_to(parts.train)  # pyright: ignore[reportCallIssue]
    return {f"{name}.{key}": tensor for name, module in fitted.items() for key, tensor in module.state_dict().items()}


def save_fitted(path: Path, state: Mapping[str, Tensor]) -> None:
    """Keep what `fit_to_data` returned for when the run goes on."""
    content = save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()})
    write_atomically(path, lambda part: part.write_bytes(content))


def restore_fitted(parts: Parts, path: Path, seed: int) -> None:
    """Put back what `save_fitted` kept, so that nothing is solved twice.

    Raises:
        CheckpointError: The file belongs to other models.
    """
    state = read_weights(path, "fitted")
    if hasattr(parts.evaluation, "fit_to"):  # no module, so it has no state that could have been kept
        with own_randomness(seed, 3):
            parts.evaluation.fit_to(parts.train)
    for name, module in _solvers(parts):
        own = {key.removeprefix(f"{name}."): tensor for key, tensor in state.items() if key.startswith(f"{name}.")}
        try:
            module.load_state_dict(own)
        except RuntimeError as error:
            raise CheckpointError(f"{path} does not fit {name}: {error}") from error


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


def _model(node: Mapping[str, Any], where: str, *seed: int) -> nn.Module:
    """The model of a node, with the weights that it names."""
    with own_randomness(*seed):
        model = resolve.build(
            {key: value for key, value in node.items() if key != "weights"}, kind="module", where=where
        )
    if node.get("weights") is not None:
        load_weights(model, node["weights"], where=f"{where}.weights")
    return model


def _solvers(parts: Parts) -> Iterator[tuple[str, nn.Module]]:
    """Every module with a method `fit_to`, once, by its name in the run; what lies inside one is its own business."""
    owners = {"teacher": parts.teacher, "student": parts.student}
    if not hasattr(parts.evaluation, "fit_to"):  # else its baselines are its own business too
        owners |= {f"baselines.{name}": baseline for name, baseline in parts.baselines.items()}
    seen: set[nn.Module] = set()
    for title, owner in owners.items():
        for path, module in () if owner is None else owner.named_modules():
            if module not in seen and hasattr(module, "fit_to"):
                yield f"{title}.{path}" if path else title, module
            if module in seen or hasattr(module, "fit_to"):
                seen.update(module.modules())
