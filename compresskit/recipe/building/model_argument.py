"""The argument MODEL of the command line: a dotted name with literal arguments, or a model of a recipe.

`zoo.pynet.PyNET`, `torchvision.models.resnet18(num_classes=10)`, `recipes/pynet_qxq.yaml#student`. The text is parsed
and never evaluated, and a name may reach only what a recipe's names may.
"""

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.error import URLError

from torch import nn

from compresskit import nodes
from compresskit.distill.spec.address import STUDENT
from compresskit.errors import RecipeError, close_names, within
from compresskit.randomness import own_randomness
from compresskit.recipe.building.closed_form import fit_to_data
from compresskit.recipe.building.components import Components, build_components, build_model
from compresskit.recipe.reading.load import Recipe, load_recipe


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model, and inputs that go with it."""

    model: nn.Module
    inputs: Any = None
    """Inputs of one sample of the recipe's data, as a batch of one; None if they were not requested."""


def build_named(
    texts: Sequence[str],
    *,
    with_inputs: bool = False,
    fitted: bool = False,
    preset: str | None = None,
    overrides: Sequence[str] = (),
) -> dict[str, NamedModel]:
    """Build the models that MODEL arguments name. Their keys are short names where these differ.

    Args:
        texts: The arguments.
        with_inputs: Take one training sample's inputs from the recipe's data, for a recipe's model.
        fitted: Solve the modules of a recipe's model that have a closed form, so that the model can run.
        preset: Preset of the recipes.
        overrides: Changes to the recipes, as with `--set`.

    Raises:
        RecipeError: A text names no model, or appears twice.
    """
    short = [_short(text) for text in texts]
    labels = short if len(set(short)) == len(short) else list(texts)
    if len(set(labels)) < len(labels):
        raise RecipeError(f"MODEL {next(text for text in texts if texts.count(text) > 1)!r} is named twice")
    recipes: dict[str, tuple[Recipe, Components | None]] = {}
    models = {}
    for label, text in zip(labels, texts, strict=True):
        path, _, name = text.rpartition("#")
        if not path:
            models[label] = NamedModel(_build(text))
            continue
        if path not in recipes:
            recipes[path] = _load(path, preset, overrides, build=with_inputs or fitted, fitted=fitted)
        models[label] = _of_recipe(text, name, *recipes[path])
    return models


def parse_model(text: str) -> dict[str, Any]:
    """Return the node for a dotted name with literal arguments.

    Raises:
        RecipeError: The text is something else.
    """
    try:
        expression = ast.parse(text.strip(), mode="eval").body
        call = expression if isinstance(expression, ast.Call) else ast.Call(expression, [], [])
        if any(keyword.arg is None for keyword in call.keywords):
            raise ValueError(text)
        args = [ast.literal_eval(value) for value in call.args]
        options = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
        node: dict[str, Any] = {"_target_": _dotted(call.func), **options}
    except (SyntaxError, ValueError, TypeError) as error:
        raise RecipeError(
            f"MODEL {text!r}: expected a dotted name with literal arguments, such as zoo.pynet.PyNET or "
            "'torchvision.models.resnet18(num_classes=10)', or a recipe's model: RECIPE#student"
        ) from error
    return {**node, "_args_": args} if args else node


def _build(text: str) -> nn.Module:
    try:
        node = parse_model(text)
        with own_randomness(0), within(text):
            return nodes.build(node, kind="module")
    except URLError as error:
        raise RecipeError(
            f"{text}: it downloads weights, and that failed: {error.reason}; most builders take weights=None and "
            "weights_backbone=None"
        ) from error


def _load(
    path: str, preset: str | None, overrides: Sequence[str], *, build: bool, fitted: bool
) -> tuple[Recipe, Components | None]:
    """Return a recipe, and all of its components where they are needed."""
    recipe = load_recipe(path, preset, overrides)
    if not build:
        return recipe, None
    with recipe.sources.with_locations(always=True):
        components = build_components(recipe)
        if fitted:
            fit_to_data(components, recipe.seed)
    return recipe, components


def _of_recipe(text: str, name: str, recipe: Recipe, components: Components | None) -> NamedModel:
    known = [*recipe.teachers, STUDENT]
    if name not in known:
        raise RecipeError(f"{text}: the recipe has no model {name!r}{close_names(name, known)}")
    if components is None:
        with recipe.sources.with_locations(always=True):
            return NamedModel(build_model(recipe, name))
    sample, view = components.sample(), components.views.get(name)
    model = components.student if name == STUDENT else components.teachers[name]
    return NamedModel(model, sample if view is None else view(sample))


def _dotted(expression: ast.expr) -> str:
    if isinstance(expression, ast.Attribute):
        return f"{_dotted(expression.value)}.{expression.attr}"
    if isinstance(expression, ast.Name):
        return expression.id
    raise ValueError(ast.dump(expression))


def _short(text: str) -> str:
    """Return the short name: `PyNET` for `zoo.pynet.PyNET(width=8)`, `student` for `recipes/pynet_qxq.yaml#student`."""
    return text.rpartition("#")[2].partition("(")[0].strip().rpartition(".")[2]
