"""The export of a run's model to a file for other runtimes, compared on the recipe's own data."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from compresskit import export as exporting
from compresskit import nodes
from compresskit.data import load_sample
from compresskit.distill.batches import unpack_batch
from compresskit.errors import RecipeError, at, within
from compresskit.export import Exported, Inputs
from compresskit.recipe.building.components import collate_of
from compresskit.recipe.building.trained_model import TrainedModel, load_model
from compresskit.recipe.reading import overrides as changes_by_path
from compresskit.recipe.reading import yaml
from compresskit.recipe.reading.locations import SourceMap
from compresskit.recipe.reading.shipped import find_recipe, weights_path

SAMPLES = 3
"""Number of samples that the file is compared on."""


def export_model(
    source: str | Path,
    out: str | Path,
    *,
    format: exporting.Format,
    weights: str | Path | None = None,
    part: str | None = None,
    preset: str | None = None,
    overrides: Iterable[str] = (),
    size: str | None = None,
    dynamic: bool = False,
    wrap: str | None = None,
    **options: Any,
) -> Exported:
    """Export a model that a run has trained; see `compresskit.export.export`.

    Args:
        source: A run's folder, a file of weights with its recipe beside it, `PACKAGE:NAME`, or a recipe; then `weights`
            are needed.
        out: The file to write.
        format: `onnx` or `pt2`.
        weights: A file of weights for the recipe.
        part: `student`, `teacher`, `alone` or `inherited`; None is the student, or the model that a file belongs to.
        preset: The recipe's preset, where `source` is a recipe.
        overrides: Changes to the recipe's data, such as `data.test.photographs=bundled:test`.
        size: Height and width of the input, `64x64`. Samples are cut or repeated to that size; None is the size of a
            training sample.
        dynamic: Whether height and width may differ from that.
        wrap: Dotted name of a module around the model, such as `zoo.raw.FromMosaic`. If it has a method `inputs_from`,
            that computes its inputs from the model's.
        options: `half`, `sliced_reflection`, `any_batch`, `channels_last`, `opset` and `tolerance`.

    Raises:
        CompressKitError: Recipe, weights or data cannot be used, or the file's answers differ from PyTorch's.
    """
    trained = _load(Path(source), weights, part, preset)
    tree = dict(trained.recipe or {})
    changes = [(f"--set {text}", *changes_by_path.parse(text)) for text in overrides]
    sources = SourceMap()
    tree = changes_by_path.apply(tree, changes, tree, sources)
    with sources.with_locations():
        model, samples = trained.model, _samples(tree, size, dynamic=dynamic)
    if wrap is not None:
        with within("--wrap"):
            model = nodes.build({"_target_": wrap}, model, kind="module")
        if hasattr(model, "inputs_from"):
            samples = [(model.inputs_from(*sample),) for sample in samples]
    metadata = {"compresskit.recipe": yaml.dump(tree), "compresskit.part": trained.part}
    return exporting.export(model, samples, out, format=format, dynamic=dynamic, metadata=metadata, **options)


def _load(source: Path, weights: str | Path | None, part: str | None, preset: str | None) -> TrainedModel:
    if source.is_dir() or weights_path(source).suffix in (".safetensors", ".pt", ".pth"):
        if weights is not None:
            raise RecipeError(f"{source} has its own weights; give it, or a recipe with --weights")
        return load_model(source, part=part)
    if weights is None:
        recipe = find_recipe(source)
        raise RecipeError(f"{recipe}: a recipe has no trained weights: add --weights, or give a run's folder")
    return load_model(weights, part=part, recipe=source, preset=preset)


def _samples(tree: Mapping[str, Any], size: str | None, *, dynamic: bool) -> list[Inputs]:
    """Return inputs of the test data, or else of the training data; all of one size, or with `dynamic` of two."""
    data = tree.get("data") or {}
    split = "train" if data.get("test") is None else "test"
    with at("data", split):
        dataset = nodes.build(data.get(split), kind="dataset")
    collate = collate_of(data.get("collate"))
    samples = [_inputs(collate([load_sample(dataset, index)])) for index in range(min(SAMPLES, len(dataset)))]
    sides = _size(size)
    if sides is None:
        with at("data", "train"):
            train = dataset if split == "train" else nodes.build(data["train"], kind="dataset")
            example = samples if split == "train" else [_inputs(collate([load_sample(train, 0)]))]
        sides = [*example[0][0].shape[2:]]
    sized = [tuple(_cut(tensor, sides) for tensor in inputs) for inputs in samples]
    if dynamic:
        doubled = [2 * side for side in sides]
        sized.append(tuple(_cut(tensor, doubled) for tensor in samples[0]))
    return sized


def _inputs(batch: Any) -> Inputs:
    inputs, _ = unpack_batch(batch)
    inputs = inputs if isinstance(inputs, tuple | list) else (inputs,)
    if not all(isinstance(tensor, Tensor) for tensor in inputs):
        raise RecipeError("export takes models whose inputs are tensors by position")
    return tuple(inputs)


def _size(text: str | None) -> list[int] | None:
    if text is None:
        return None
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", text):
        raise RecipeError(f"--size is height x width of the model's input, such as 64x64, got {text!r}")
    return [int(side) for side in text.split("x")]


def _cut(tensor: Tensor, sides: list[int]) -> Tensor:
    """Return a tensor with its last axes cut to these sides, after repeating it where it is shorter."""
    axes = tensor.ndim - 2
    sides = sides[:axes]
    times = [-(-side // own) for side, own in zip(sides, tensor.shape[2:], strict=True)]
    repeated = tensor.repeat(1, 1, *times)
    return repeated[(..., *(slice(side) for side in sides))].contiguous()
