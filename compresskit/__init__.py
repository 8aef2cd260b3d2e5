"""compresskit: compress any PyTorch model by distilling it, stage by stage, into a smaller one."""

from compresskit.distill import curricula as curricula
from compresskit.distill.distiller import ProgressiveDistiller as ProgressiveDistiller
from compresskit.distill.stage import Match as Match
from compresskit.distill.stage import Stage as Stage
from compresskit.distill.stage import Task as Task
from compresskit.errors import CompressKitError as CompressKitError
from compresskit.errors import DataError as DataError
from compresskit.errors import RecipeError as RecipeError
from compresskit.errors import ShapeError as ShapeError
from compresskit.errors import TapError as TapError
