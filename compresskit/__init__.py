"""compresskit: compress any PyTorch model by distilling it, stage by stage, into a smaller one.

This file holds the public names and nothing else. Each is imported when it is first used, so that `import compresskit`
and the command line's `--help` and tab completion do not wait for torch.

Rooms, in reading order:

- `distill/`: the engine: stages, taps, losses on taps, training, the teacher cache, one call of `fit`.
- `losses/`: losses as pure functions, and the catalogue of their names.
- `inheritance/`: a student's initial weights from its teacher.
- `nodes/`: `{_target_: …}` to objects, and the names that a recipe may reach.
- `recipe/`: an experiment as a YAML file, from its text to the table and the card at its end.
- `profiling/`: the cost of running a model.
- `commands/`: the commands of the command line.

Files that the rooms share:

- `cli`: arguments in, exit codes out.
- `schedules`: learning-rate schedules for recipes.
- `evaluation`: `Evaluation`; start here to measure a task of your own.
- `data`: batches whose random choices are a function of seed, sample and epoch.
- `export`: a model as a file for other runtimes.
- `signature`: keyword arguments checked before a call.
- `nested`: tensors in nested containers and modules, and their device.
- `restore`: a model put back as it was.
- `randomness`: the global random generators, seeded and restored.
- `environment`: versions, machine and commit of a run; free memory.
- `files`: files that are whole or absent, and whose damage is noticed: text, JSON, records, weights.
- `tables`: tables for a terminal and in Markdown.
- `units`: numbers and shapes as text.
- `installation`: the import path without the current folder.
- `errors`: the family of errors, paths in messages, and `close_names`: the end of "did you mean …?".
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from compresskit.errors import CompressKitError as CompressKitError
from compresskit.errors import DataError as DataError
from compresskit.errors import RecipeError as RecipeError
from compresskit.errors import ShapeError as ShapeError
from compresskit.errors import TapError as TapError

if TYPE_CHECKING:
    from compresskit.distill import curricula as curricula
    from compresskit.distill.distiller import ProgressiveDistiller as ProgressiveDistiller
    from compresskit.distill.session.callbacks import Callback as Callback
    from compresskit.distill.spec.match import Match as Match
    from compresskit.distill.spec.match import Splice as Splice
    from compresskit.distill.spec.match import Task as Task
    from compresskit.distill.spec.stage import Stage as Stage
    from compresskit.evaluation import Evaluation as Evaluation
    from compresskit.inheritance import inherit as inherit
    from compresskit.profiling import compare as compare
    from compresskit.profiling import profile as profile
    from compresskit.recipe.building.trained_model import load_model as load_model
    from compresskit.recipe.reading.load import load_recipe as load_recipe
    from compresskit.recipe.running.run import run_recipe as run_recipe

_HOMES = {
    "Callback": "compresskit.distill.session.callbacks",
    "Evaluation": "compresskit.evaluation",
    "Match": "compresskit.distill.spec.match",
    "ProgressiveDistiller": "compresskit.distill.distiller",
    "Stage": "compresskit.distill.spec.stage",
    "Splice": "compresskit.distill.spec.match",
    "Task": "compresskit.distill.spec.match",
    "compare": "compresskit.profiling",
    "curricula": "compresskit.distill",
    "inherit": "compresskit.inheritance",
    "load_model": "compresskit.recipe.building.trained_model",
    "load_recipe": "compresskit.recipe.reading.load",
    "profile": "compresskit.profiling",
    "run_recipe": "compresskit.recipe.running.run",
}

__all__ = [
    "Callback",
    "CompressKitError",
    "DataError",
    "Evaluation",
    "Match",
    "ProgressiveDistiller",
    "RecipeError",
    "ShapeError",
    "Splice",
    "Stage",
    "TapError",
    "Task",
    "compare",
    "curricula",
    "inherit",
    "load_model",
    "load_recipe",
    "profile",
    "run_recipe",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'compresskit' has no attribute {name!r}")
    home = import_module(_HOMES[name])
    value = getattr(home, name, None) or import_module(f"{_HOMES[name]}.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
