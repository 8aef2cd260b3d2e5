"""What can go wrong, as one small family.

Each error is also the built-in that fits it, so `except ValueError` keeps working:

    CompressKitError
    ├── RecipeError      (ValueError)    a recipe, stage or option cannot be understood
    ├── TapError         (LookupError)   an address names no tensor of the model
    ├── ShapeError       (ValueError)    two tensors do not fit each other
    ├── DataError        (ValueError)    a photograph, folder or batch cannot be used
    ├── CheckpointError  (ValueError)    weights or a run's folder belong to something else
    ├── TrainingError    (RuntimeError)  the run itself failed: a loss became NaN
    └── ExportError      (RuntimeError)  the exported file would not do what the model does

All but the last two are the user's input: the command line answers them with exit code 2, the last two with 1.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class CompressKitError(Exception):
    """Base class: `except CompressKitError` catches all of them."""


class RecipeError(CompressKitError, ValueError):
    """A recipe cannot be understood. The message starts with where: `stages[1].matches[0].loss`."""


class TapError(CompressKitError, LookupError):
    """An address names no tensor of the model, or a tap captured nothing."""


class ShapeError(CompressKitError, ValueError):
    """Two tensors, or a tensor and a module, do not fit each other."""


class DataError(CompressKitError, ValueError):
    """A photograph, a folder or a batch cannot be used."""


class CheckpointError(CompressKitError, ValueError):
    """Weights, a checkpoint or a run's folder belong to something else, or are damaged."""


class TrainingError(CompressKitError, RuntimeError):
    """The run failed while training: the message names the stage and the term."""


class ExportError(CompressKitError, RuntimeError):
    """A model cannot be exported, or what was exported computes something else."""


def close_names(word: str, known: Iterable[str], *, most: int = 3) -> str:
    """The end of a sentence about an unknown `word`: the nearest known names, or some of those that exist."""
    names = [str(name) for name in known]
    if close := get_close_matches(word, names, n=most, cutoff=0.5):
        return f"; did you mean {' or '.join(repr(name) for name in close)}?"
    if not names:
        return "; there are none"
    more = f", … ({len(names)} in all)" if len(names) > 8 else ""
    return f"; known: {', '.join(names[:8])}{more}"
