"""The recipes that come with compresskit, by name. This file imports no torch: tab completion must be fast."""

from pathlib import Path

from compresskit.errors import RecipeError, close_names

_PACKAGE = Path(__file__).parents[2]


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


def _one_inside(folder: Path) -> str:
    files = sorted(folder.glob("*.yaml"))
    return f", such as {files[0]}" if files else ""
