"""Recipes and weights that come with packages, by name: `pynet_qxq`, and `zoo:pynet`.

This file imports no torch: tab completion must be fast.
"""

import hashlib
import json
import re
from importlib.util import find_spec
from pathlib import Path

from compresskit.errors import CheckpointError, RecipeError, close_names

_PACKAGE = Path(__file__).parents[2]

_REFERENCE = re.compile(r"([A-Za-z_]\w+):([\w.-]+)")
"""A package and the name of weights. A drive's single letter is no package."""


def shipped_recipes() -> dict[str, Path]:
    """Return the files by name: in `recipes/` of a checkout, or in `compresskit/recipes` of an installed wheel."""
    folders = [_PACKAGE / "recipes"]
    if (_PACKAGE.parent / "pyproject.toml").exists():  # otherwise the neighbour is another package's folder
        folders.append(_PACKAGE.parent / "recipes")
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def find_recipe(recipe: str | Path) -> Path:
    """Return the file of a recipe, by its path or else by its shipped name.

    Raises:
        RecipeError: There is no such file or name; the message lists the shipped names.
    """
    path, shipped = Path(recipe), shipped_recipes()
    if path.is_file():
        return path
    if str(recipe) in shipped:
        return shipped[str(recipe)]
    if path.is_dir():
        raise RecipeError(f"{recipe} is a folder; a recipe is a YAML file{_one_inside(path)}")
    raise RecipeError(f"no recipe {str(recipe)!r}{close_names(path.stem, shipped)}")


def weights_path(reference: str | Path) -> Path:
    """Return the file of the weights `PACKAGE:NAME`, which is `weights/NAME.safetensors` in the package; else the path.

    Nothing of the package is imported. The file's SHA-256 must be the one on its card `NAME.json`.

    Raises:
        CheckpointError: There is no such package or name, or the file is damaged.
    """
    match = _REFERENCE.fullmatch(str(reference))
    if match is None:
        return Path(reference)
    package, name = match.groups()
    files = _weights_of(package)
    if name not in files:
        raise CheckpointError(f"the package {package!r} has no weights {name!r}{close_names(name, files)}")
    path = files[name]
    try:
        expected = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        expected = None
    if hashlib.sha256(path.read_bytes()).hexdigest() != expected:
        raise CheckpointError(f"{path} is damaged: its SHA-256 is not the one on its card; install {package} again")
    return path


def _one_inside(folder: Path) -> str:
    files = sorted(folder.glob("*.yaml"))
    return f", such as {files[0]}" if files else ""


def _weights_of(package: str) -> dict[str, Path]:
    """Return the files of weights that a package brings, by name.

    Raises:
        CheckpointError: There is no such package.
    """
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):  # of `__main__`, say
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise CheckpointError(f"weights of the package {package!r}: there is no such package")
    folders = [Path(location) / "weights" for location in spec.submodule_search_locations]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.safetensors"))}
