"""A model that a run has trained: built from its recipe, with its weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from compresskit.distill.spec.address import STUDENT, TEACHER
from compresskit.errors import CheckpointError, RecipeError, at, close_names
from compresskit.files import load_weights, read_json, read_weights
from compresskit.recipe.building.components import bare_model
from compresskit.recipe.reading import yaml
from compresskit.recipe.reading.load import load_recipe
from compresskit.recipe.reading.shipped import weights_path
from compresskit.recipe.run_files import ALONE, INHERITED, RECIPE_FILE, WEIGHTS_FILE, part_folder, recipe_damage
from compresskit.recipe.terminal import say

PARTS = (STUDENT, TEACHER, ALONE, INHERITED)


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A model with its weights, in eval mode on the CPU, and its origin."""

    model: nn.Module
    recipe: Mapping[str, Any] | None
    """The recipe that trained it, with all defaults written out; None for weights without one."""
    part: str
    """`student`, `teacher`, `alone` or `inherited`."""
    weights: Path


def load_model(
    weights: str | Path,
    *,
    part: str | None = None,
    recipe: str | Path | None = None,
    preset: str | None = None,
    otherwise: Callable[[Mapping[str, Tensor]], nn.Module] | None = None,
) -> TrainedModel:
    """Load a model that a run has trained. Nothing in the files can run code, and all weights must fit.

    The recipe is read from the run's folder, or from beside the weights: `recipe.yaml` in the folder of the file or the
    one above it, or a card `NAME.json` beside `NAME.safetensors` whose key `recipe` holds it.

    Args:
        weights: A run's folder, a file of weights, or `PACKAGE:NAME` for weights that come with a package.
        part: The model of the run: `student`, `teacher`, `alone` or `inherited`; None is the one that a file belongs
            to, else `student`.
        recipe: The recipe, where it is not beside the weights: a file, or the name of a shipped one.
        preset: The recipe's preset; only with `recipe`.
        otherwise: Function that builds a model for weights without a recipe, from their names and shapes.

    Raises:
        CheckpointError: Weights or recipe are missing, damaged, or of another model.
        RecipeError: The recipe cannot be understood, or has no such part.
    """
    if part is not None and part not in PARTS:
        raise RecipeError(f"a run has no model {part!r}{close_names(part, PARTS)}")
    with at("weights"):
        path = weights_path(weights)
    if path.is_dir():
        part = part or STUDENT
        path = _in_run(path, part)
    tree = load_recipe(recipe, preset).resolved() if recipe is not None else _recipe_beside(path)
    if tree is None:
        if otherwise is None:
            raise CheckpointError(
                f"{path}: there is no {RECIPE_FILE} beside it; name the recipe that it was trained by"
            )
        with at("weights"):
            state = read_weights(path)
        model, part = otherwise(state), part or STUDENT
    else:
        part = part or _part_of(path)
        model = _build(tree, part, path)
    with at("weights"):
        load_weights(model, path)
    return TrainedModel(model.eval(), tree, part, path)


def _in_run(folder: Path, part: str) -> Path:
    """Return the file of a model's weights in a run's folder, or the file that the recipe names for a teacher."""
    if not (folder / RECIPE_FILE).is_file():
        raise CheckpointError(f"{folder} is no run's folder: it has no {RECIPE_FILE}")
    path = part_folder(folder, part) / WEIGHTS_FILE
    if path.is_file():
        return path
    node = yaml.read(folder / RECIPE_FILE).data.get(TEACHER) if part == TEACHER else None
    if node and node.get("weights") is not None:
        return weights_path(node["weights"])
    raise CheckpointError(f"{folder} has no weights of its {part} ({path.relative_to(folder)}): is it finished?")


def _recipe_beside(path: Path) -> Mapping[str, Any] | None:
    card = path.with_suffix(".json")
    tree = None
    if card.is_file():
        content = read_json(card)
        tree = content.get("recipe") if isinstance(content, Mapping) else None
    for folder in (path.parent, path.parent.parent):
        if tree is None and path.suffix == ".safetensors" and (folder / RECIPE_FILE).is_file():
            if damage := recipe_damage(folder):
                say(damage)
            tree = yaml.read(folder / RECIPE_FILE).data
    if tree is not None and not isinstance(tree, Mapping):
        raise CheckpointError(f"{path}: the recipe beside it is damaged")
    return tree


def _part_of(path: Path) -> str:
    """Return the part that a file of weights belongs to, by its folder."""
    folder = path.parent.name
    return folder if folder in PARTS and not (path.parent / RECIPE_FILE).exists() else STUDENT


def _build(tree: Mapping[str, Any], part: str, path: Path) -> nn.Module:
    key = TEACHER if part == TEACHER else STUDENT
    node = tree.get(key)
    if not isinstance(node, Mapping):
        raise RecipeError(f"the recipe of {path} has no {key}")
    with at(key):
        return bare_model(node, 0)
