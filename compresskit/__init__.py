"""compresskit: compress any PyTorch model by distilling it, stage by stage, into a smaller one.

The public names, and nothing else. Each is imported when it is first used, so that `import compresskit` and the command
line's `--help` and tab completion do not wait for torch.
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
    from compresskit.distill.spec.match import Match as Match
    from compresskit.distill.spec.match import Splice as Splice
    from compresskit.distill.spec.match import Task as Task
    from compresskit.distill.spec.stage import Stage as Stage
    from compresskit.evaluation import Evaluation as Evaluation
    from compresskit.profiling import compare as compare
    from compresskit.profiling import profile as profile
    from compresskit.recipe.building.trained_model import load_model as load_model
    from compresskit.recipe.reading.load import load_recipe as load_recipe
    from compresskit.recipe.running.run import run_recipe as run_recipe

_HOMES = {
    "Evaluation": "compresskit.evaluation",
    "Match": "compresskit.distill.spec.match",
    "ProgressiveDistiller": "compresskit.distill.distiller",
    "Stage": "compresskit.distill.spec.stage",
    "Splice": "compresskit.distill.spec.match",
    "Task": "compresskit.distill.spec.match",
    "compare": "compresskit.profiling",
    "curricula": "compresskit.distill",
    "load_model": "compresskit.recipe.building.trained_model",
    "load_recipe": "compresskit.recipe.reading.load",
    "profile": "compresskit.profiling",
    "run_recipe": "compresskit.recipe.running.run",
}

__all__ = [
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
