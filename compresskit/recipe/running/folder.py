"""A run's folder: which one, whose, and the files that say what made it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compresskit.distill.precision import AUTO
from compresskit.errors import CheckpointError, RecipeError
from compresskit.files import write_text
from compresskit.recipe.reading import yaml
from compresskit.recipe.reading.load import Recipe
from compresskit.recipe.reading.run_files import RECIPE_FILE

RUNS = Path("runs")


MEASURED = ("precision", "compile", "memory_format")
"""Keys of a recipe whose `auto` a run replaces by what is fastest."""


def choose_folder(recipe: Recipe, out: str | Path | None, *, resume: bool) -> Path:
    """The folder that a run goes to, or goes on in. Nothing is created.

    Without `out` it is `runs/NAME`, with the next free number behind the name if need be; to go on, it is the newest
    of these folders that holds this very recipe.

    Raises:
        CheckpointError: The folder is used and the run is to start, or the run is to go on and the folder holds none
            or another recipe's.
    """
    if resume:
        folder = _newest(recipe) if out is None else Path(out)
        _check_same(recipe, folder)
        return folder
    if out is None:
        return _next_free(recipe.name)
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(
            f"{folder} is used already: add --resume to go on with the run in it, or give another --out"
        )
    return folder


def has_checkpoint(folder: Path) -> bool:
    """Whether any part of the run has come to its first checkpoint."""
    return any(folder.glob("checkpoints/*.pt")) or any(folder.glob("*/checkpoints/*.pt"))


def write_recipe(folder: Path, recipe: Recipe, heading: str, notes: str) -> None:
    """Write the resolved recipe, which is a recipe again, with a heading and notes as comments.

    Raises:
        CheckpointError: Another run took the folder in the meantime.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be made a folder: {error.strerror}") from None
    if (folder / RECIPE_FILE).exists():
        raise CheckpointError(f"{folder} was just taken by another run; give another --out")
    write_text(folder / RECIPE_FILE, f"{_comment(heading)}\n{yaml.dump(recipe.resolved())}\n{_comment(notes)}")


def _folders(name: str) -> list[Path]:
    """`runs/NAME`, `runs/NAME-2`, …: those that exist, oldest first."""
    pattern = re.compile(rf"{re.escape(name)}(?:-(\d+))?")
    found = {int(match[1] or 1): path for path in RUNS.glob(f"{name}*") if (match := pattern.fullmatch(path.name))}
    return [found[number] for number in sorted(found)]


def _next_free(name: str) -> Path:
    taken = _folders(name)
    if not taken:
        return RUNS / name
    number = int(taken[-1].name.removeprefix(name).removeprefix("-") or 1) + 1
    return RUNS / f"{name}-{number}"


def _newest(recipe: Recipe) -> Path:
    """The newest default folder that holds this recipe, or the newest of all, to be refused with the difference."""
    folders = _folders(recipe.name)
    if not folders:
        raise CheckpointError(f"there is no run in {RUNS / recipe.name} to go on with; start it without --resume")
    same = [folder for folder in folders if _difference(recipe, folder) is None]
    return (same or folders)[-1]


def _check_same(recipe: Recipe, folder: Path) -> None:
    if not folder.is_dir():
        raise CheckpointError(f"{folder} does not exist, so there is no run to go on with; start it without --resume")
    difference = _difference(recipe, folder)
    if difference is not None:
        raise CheckpointError(f"{folder} {difference}")


def _difference(recipe: Recipe, folder: Path) -> str | None:
    """Why a folder is not this recipe's, or None if it is. The number of workers may change: the numbers do not."""
    try:
        found = yaml.read(folder / RECIPE_FILE).data
    except RecipeError as error:
        return f"holds no run that could be continued ({error})"
    if not isinstance(found, dict):
        return f"holds no run that could be continued ({RECIPE_FILE} is damaged)"
    there, here = _flat(found), _flat(yaml.value(yaml.dump(recipe.resolved()), RECIPE_FILE))
    for place in dict.fromkeys([*there, *here]):
        if here.get(place) == AUTO and place in MEASURED:  # the folder has what it came to
            continue
        if place != "data.workers" and there.get(place, "absent") != here.get(place, "absent"):
            changed = f"{place} is {there.get(place, 'absent')!r} there and {here.get(place, 'absent')!r} here"
            return f"holds another recipe's run: {changed}; go on with that recipe, or give another --out"
    return None


def _flat(data: Any, place: str = "") -> dict[str, Any]:
    """Every value by its place, so that two trees can be compared and the first difference named."""
    if isinstance(data, Mapping) and data:
        inside = [(f"{place}.{key}" if place else str(key), part) for key, part in data.items()]
    elif isinstance(data, list) and data:
        inside = [(f"{place}[{index}]", part) for index, part in enumerate(data)]
    else:
        return {place: data}
    return {key: value for where, part in inside for key, value in _flat(part, where).items()}


def _comment(text: str) -> str:
    return "".join(f"# {line}".rstrip() + "\n" for line in text.splitlines())
