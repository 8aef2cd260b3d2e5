"""Changes to a recipe by path: `stages.1.steps=50` on the command line, and the same paths in presets."""

import copy
import re
from collections.abc import Iterable, Mapping
from typing import Any

from compresskit.errors import RecipeError, close_names
from compresskit.recipe.reading import yaml


def parse(text: str) -> tuple[str, Any]:
    """The path and the value, read as YAML, of `PATH=VALUE`.

    Raises:
        RecipeError: There is no `=`, or the value is not YAML.
    """
    path, equals, written = text.partition("=")
    if not equals or not path.strip():
        raise RecipeError(f"--set {text}: expected PATH=VALUE, such as stages.1.steps=50")
    return path.strip(), yaml.value(written, f"--set {text}")


def apply(tree: Mapping[str, Any], changes: Iterable[tuple[str, str, Any]], known: Iterable[str]) -> dict[str, Any]:
    """A copy of the recipe's tree with the changes made, one after the other.

    Args:
        tree: The recipe as plain data.
        changes: Where each change comes from (for messages), its path and its value. `stages.1.steps` and
            `stages[1].steps` are the same path; numbers count from 0.
        known: Top-level keys that may be set although the recipe does not have them.

    Raises:
        RecipeError: A path leads nowhere; the message names the nearest key.
    """
    changed = copy.deepcopy(dict(tree))
    for source, path, value in changes:
        _set(changed, source, path, copy.deepcopy(value), [*known])
    return changed


def _set(tree: dict[str, Any], source: str, path: str, value: Any, known: list[str]) -> None:
    *steps, last = re.sub(r"\[(\d+)\]", r".\1", path).split(".")
    if steps == ["cache"] and tree.get("cache") is None:
        tree["cache"] = {}  # `cache.budget=8GB` where there is no cache yet
    owner: Any = tree
    for depth, step in enumerate(steps):
        owner = owner[_key(owner, step, ".".join(steps[:depth]), source)]
    if isinstance(owner, dict) and last and (owner is not tree or last in known):
        owner[last] = value  # it may be new: what may stand there is checked with the rest of the recipe
    else:
        owner[_key(owner, last, ".".join(steps), source, known if owner is tree else ())] = value


def _key(owner: Any, step: str, place: str, source: str, known: Iterable[str] = ()) -> Any:
    """The key or index that one step of a path means."""
    where = repr(place) if place else "the recipe"
    if isinstance(owner, dict):
        if step not in owner:
            raise RecipeError(f"{source}: {where} has no {step!r}{close_names(step, dict.fromkeys([*owner, *known]))}")
        return step
    if isinstance(owner, list):
        if not step.isdecimal() or int(step) >= len(owner):
            entries = f"entries 0 to {len(owner) - 1}" if owner else "no entries"
            raise RecipeError(f"{source}: {where} is a list with {entries}, got {step!r}")
        return int(step)
    raise RecipeError(f"{source}: {where} is {owner!r}, which has nothing inside to set")
