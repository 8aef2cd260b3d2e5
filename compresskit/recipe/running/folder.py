"""The choice of a run's folder, and the recipe that is written into it."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compresskit.distill.precision import AUTO
from compresskit.distill.session.folder_lock import LOCK_FILES
from compresskit.errors import CheckpointError, KeyPath, RecipeError, path_text
from compresskit.files import write_text
from compresskit.nodes import FORMER_NAMES
from compresskit.recipe.reading import yaml
from compresskit.recipe.reading.load import Recipe
from compresskit.recipe.run_files import DAMAGED_RECIPE_FILE, RECIPE_FILE, has_checkpoint, recipe_damage, signed_text

RUNS = Path("runs")


AUTO_PATHS: tuple[KeyPath, ...] = (("precision",), ("compile",), ("memory_format",))
"""Places in a recipe whose `auto` a run replaces by the fastest choice."""


def choose_folder(recipe: Recipe, out: str | Path | None, *, resume: bool | str) -> Path:
    """Return the folder for a new run, or the folder of the run to resume. Nothing is created.

    Without `out` it is `runs/NAME`, with the next free number behind the name if need be; to resume, it is the newest
    of these folders that holds this very recipe. `"auto"` resumes where there is such a run, and else starts a new one.

    Raises:
        CheckpointError: A new run's folder is used, or the folder to resume in holds no run or another recipe's.
    """
    if resume == "auto":
        resume = bool(_same(recipe)) if out is None else (Path(out) / RECIPE_FILE).exists()
    if resume:
        folder = _newest(recipe) if out is None else Path(out)
        _check_same(recipe, folder)
        return folder
    if out is None:
        return _next_free(recipe.name)
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(path.name not in LOCK_FILES for path in folder.iterdir())):
        raise CheckpointError(
            f"{folder} is used already: add --resume to go on with the run in it, or give another --out"
        )
    return folder


def write_recipe(folder: Path, recipe: Recipe, heading: str, notes: str) -> None:
    """Write the resolved recipe, which is a recipe again, with a heading and notes as comments.

    Raises:
        CheckpointError: Another run has taken the folder in the meantime.
    """
    if (folder / RECIPE_FILE).exists():
        raise CheckpointError(f"{folder} was just taken by another run; give another --out")
    _write(folder, recipe, heading, notes)


def replace_recipe(folder: Path, recipe: Recipe, heading: str) -> None:
    """Write the resolved recipe in the place of a damaged one, which stays under another name."""
    shutil.copyfile(folder / RECIPE_FILE, folder / DAMAGED_RECIPE_FILE)
    _write(
        folder, recipe, heading, "Written when the run was resumed, as the file that the run had written was damaged."
    )


def _write(folder: Path, recipe: Recipe, heading: str, notes: str) -> None:
    text = f"{_comment(heading)}\n{yaml.dump(recipe.resolved())}\n{_comment(notes)}"
    write_text(folder / RECIPE_FILE, signed_text(text))


def _folders(name: str) -> dict[int, Path]:
    """Return the existing folders `runs/NAME`, `runs/NAME-2`, … by number, oldest first."""
    pattern = re.compile(rf"{re.escape(name)}(?:-(\d+))?")
    matches = [(pattern.fullmatch(path.name), path) for path in RUNS.glob(f"{name}*")]
    return dict(sorted((int(match[1] or 1), path) for match, path in matches if match))


def _next_free(name: str) -> Path:
    folders = _folders(name)
    return RUNS / (f"{name}-{max(folders) + 1}" if folders else name)


def _newest(recipe: Recipe) -> Path:
    """Return the newest default folder that holds this recipe, or the newest of all, whose difference is then named."""
    folders = list(_folders(recipe.name).values())
    if not folders:
        raise CheckpointError(f"there is no run in {RUNS / recipe.name} to go on with; start it without --resume")
    return (_same(recipe) or folders)[-1]


def _same(recipe: Recipe) -> list[Path]:
    """Return the default folders that hold this very recipe, oldest first."""
    return [folder for folder in _folders(recipe.name).values() if _difference(recipe, folder) is None]


def _check_same(recipe: Recipe, folder: Path) -> None:
    if not folder.is_dir():
        raise CheckpointError(f"{folder} does not exist, so there is no run to go on with; start it without --resume")
    difference = _difference(recipe, folder)
    replaceable = has_checkpoint(folder) and recipe.precision.is_resolved and recipe_damage(folder)
    if difference is not None and not replaceable:  # the checkpoints, too, tell whether the run is another one
        raise CheckpointError(f"{folder} {difference}")


def _difference(recipe: Recipe, folder: Path) -> str | None:
    """Return why a folder does not hold this recipe's run, or None if it does.

    The number of workers may differ, as the numbers of a run do not depend on it. A name may be a former one.
    """
    try:
        data = yaml.read(folder / RECIPE_FILE).data
    except RecipeError as error:
        return f"holds no run that could be continued ({error})"
    if not isinstance(data, dict):
        return f"holds no run that could be continued ({RECIPE_FILE} is damaged)"
    there, here = _flat(data), _flat(yaml.value(yaml.dump(recipe.resolved()), RECIPE_FILE))
    for path in dict.fromkeys([*there, *here]):
        if path == ("data", "workers") or (here.get(path) == AUTO and path in AUTO_PATHS):
            continue
        old, new = there.get(path, "absent"), here.get(path, "absent")
        if FORMER_NAMES.get(str(old), old) != new:
            change = f"{path_text(path)} is {old!r} there and {new!r} here"
            return f"holds another recipe's run: {change}; go on with that recipe, or give another --out"
    return None


def _flat(data: Any, path: KeyPath = ()) -> dict[KeyPath, Any]:
    """Return every value by its path, so that two trees can be compared and the first difference named."""
    if isinstance(data, Mapping) and data:
        parts = [((*path, str(key)), part) for key, part in data.items()]
    elif isinstance(data, list) and data:
        parts = [((*path, index), part) for index, part in enumerate(data)]
    else:
        return {path: data}
    return {inner: value for place, part in parts for inner, value in _flat(part, place).items()}


def _comment(text: str) -> str:
    return "".join(f"# {line}".rstrip() + "\n" for line in text.splitlines())
