"""MODEL on the command line: a dotted name with literal arguments, or a model of a recipe.

`zoo.pynet.PyNET`, `torchvision.models.resnet18(num_classes=10)`, `recipes/pynet_qxq.yaml#student`. The text is parsed
and never evaluated; what a name may reach is what a recipe's may.
"""

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.error import URLError

from torch import nn

from compresskit import nodes
from compresskit.distill.spec.address import STUDENT
from compresskit.errors import RecipeError, close_names
from compresskit.randomness import own_randomness
from compresskit.recipe.building.closed_form import fit_to_data
from compresskit.recipe.building.components import Parts, build_model, build_parts
from compresskit.recipe.reading.load import Recipe, load_recipe


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model, and inputs that go with it."""

    model: nn.Module
    inputs: Any = None
    """One sample's inputs as a batch of one, where a recipe's data gave them."""


def build_named(
    texts: Sequence[str],
    *,
    with_inputs: bool = False,
    fitted: bool = False,
    preset: str | None = None,
    overrides: Sequence[str] = (),
) -> dict[str, NamedModel]:
    """Build the models that MODEL arguments mean, by short names where these differ.

    Args:
        texts: The arguments.
        with_inputs: Take one training sample's inputs from the recipe's data, where it is a recipe's model.
        fitted: Show the training data to the parts of a recipe's model that are solved in closed form: it shall run.
        preset: Of the recipes.
        overrides: Changes to the recipes, as with `--set`.

    Raises:
        RecipeError: A text names no model, or stands there twice; the message says what was found.
    """
    short = [_short(text) for text in texts]
    labels = short if len(set(short)) == len(short) else list(texts)
    if len(set(labels)) < len(labels):
        raise RecipeError(f"MODEL {next(text for text in texts if texts.count(text) > 1)!r} stands there twice")
    loaded: dict[str, tuple[Recipe, Parts | None]] = {}
    models = {}
    for label, text in zip(labels, texts, strict=True):
        path, _, name = text.rpartition("#")
        if not path:
            models[label] = NamedModel(_built(text))
            continue
        if path not in loaded:
            loaded[path] = _loaded(path, preset, overrides, parts=with_inputs or fitted, fitted=fitted)
        models[label] = _of_recipe(text, name, *loaded[path])
    return models


def parse_model(text: str) -> dict[str, Any]:
    """The node that a dotted name with literal arguments stands for.

    Raises:
        RecipeError: It is something else.
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


def _built(text: str) -> nn.Module:
    try:
        with own_randomness(0):
            return nodes.build(parse_model(text), kind="module", where=text)
    except URLError as error:
        raise RecipeError(
            f"{text}: it downloads weights, and that failed: {error.reason}; most builders take weights=None and "
            "weights_backbone=None"
        ) from error


def _loaded(
    path: str, preset: str | None, overrides: Sequence[str], *, parts: bool, fitted: bool
) -> tuple[Recipe, Parts | None]:
    """A recipe, and where its data is needed, all of its parts."""
    recipe = load_recipe(path, preset, overrides)
    if not parts:
        return recipe, None
    with recipe.sources.with_locations(always=True):
        built = build_parts(recipe)
        if fitted:
            fit_to_data(built, recipe.seed)
    return recipe, built


def _of_recipe(text: str, name: str, recipe: Recipe, parts: Parts | None) -> NamedModel:
    known = [*recipe.teachers, STUDENT]
    if name not in known:
        raise RecipeError(f"{text}: the recipe has no model {name!r}{close_names(name, known)}")
    if parts is None:
        with recipe.sources.with_locations(always=True):
            return NamedModel(build_model(recipe, name))
    sample, view = parts.sample(), parts.views.get(name)
    model = parts.student if name == STUDENT else parts.teachers[name]
    return NamedModel(model, sample if view is None else view(sample))


def _dotted(expression: ast.expr) -> str:
    if isinstance(expression, ast.Attribute):
        return f"{_dotted(expression.value)}.{expression.attr}"
    if isinstance(expression, ast.Name):
        return expression.id
    raise ValueError(ast.dump(expression))


def _short(text: str) -> str:
    """`zoo.pynet.PyNET(width=8)` is `PyNET`, `recipes/pynet_qxq.yaml#student` is `student`."""
    return text.rpartition("#")[2].partition("(")[0].strip().rpartition(".")[2]
