"""Changes to a recipe by path: `stages.1.steps=50` on the command line, and the same paths in presets."""

import copy
import re
from collections.abc import Iterable, Mapping
from typing import Any

from compresskit.errors import KeyPath, RecipeError, close_names, path_text
from compresskit.recipe.reading import yaml
from compresskit.recipe.reading.locations import SourceMap


def parse(text: str) -> tuple[str, Any]:
    """Split `PATH=VALUE` into the path and the value, which is read as YAML.

    Raises:
        RecipeError: There is no `=`, or the value is not YAML.
    """
    path, equals, written = text.partition("=")
    if not equals or not path.strip():
        raise RecipeError(f"--set {text}: expected PATH=VALUE, such as stages.1.steps=50")
    return path.strip(), yaml.value(written, f"--set {text}")


def apply(
    tree: Mapping[str, Any],
    changes: Iterable[tuple[str, str, Any]],
    known: Iterable[str],
    sources: SourceMap | None = None,
) -> dict[str, Any]:
    """Return a copy of the recipe's tree with the changes made, one after the other.

    Args:
        tree: The recipe as plain data.
        changes: Origin of each change (for messages), its path and its value. `stages.1.steps` and `stages[1].steps`
            are the same path; numbers count from 0.
        known: Top-level keys that may be set although the recipe does not have them.
        sources: Map that notes each change's origin.

    Raises:
        RecipeError: A path leads nowhere; the message names the nearest key.
    """
    changed = copy.deepcopy(dict(tree))
    for origin, text, value in changes:
        path = _set(changed, origin, text, copy.deepcopy(value), [*known])
        if sources is not None:
            sources.replace(path, value, origin)
    return changed


def _set(tree: dict[str, Any], origin: str, text: str, value: Any, known: list[str]) -> KeyPath:
    """Set one value and return its path."""
    *steps, last = re.sub(r"\[(\d+)\]", r".\1", text).split(".")
    if steps == ["cache"] and tree.get("cache") is None:
        tree["cache"] = {}  # `cache.budget=8GB` where there is no cache yet
    owner: Any = tree
    path: KeyPath = ()
    for step in steps:
        path = (*path, _key(owner, step, path, origin))
        owner = owner[path[-1]]
    if isinstance(owner, dict) and last and (owner is not tree or last in known):
        path = (*path, last)  # it may be new: what may stand there is checked with the rest of the recipe
    else:
        path = (*path, _key(owner, last, path, origin, known if owner is tree else ()))
    owner[path[-1]] = value
    return path


def _key(owner: Any, step: str, path: KeyPath, origin: str, known: Iterable[str] = ()) -> str | int:
    """Return the key or index that one step of a path means."""
    title = repr(path_text(path)) if path else "the recipe"
    if isinstance(owner, dict):
        if step not in owner:
            raise RecipeError(f"{origin}: {title} has no {step!r}{close_names(step, dict.fromkeys([*owner, *known]))}")
        return step
    if isinstance(owner, list):
        if not step.isdecimal() or int(step) >= len(owner):
            entries = f"entries 0 to {len(owner) - 1}" if owner else "no entries"
            raise RecipeError(f"{origin}: {title} is a list with {entries}, got {step!r}")
        return int(step)
    raise RecipeError(f"{origin}: {title} is {owner!r}, which has nothing inside to set")
