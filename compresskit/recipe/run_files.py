"""The files in a run's folder. Each part of a run but the student's has a folder of its own inside."""

from pathlib import Path

from compresskit.distill.spec.address import STUDENT, TEACHER

RECIPE_FILE = "recipe.yaml"
"""The resolved recipe. It is written first: a folder that has it holds a run."""

ENVIRONMENT_FILE = "environment.json"

FITTED_FILE = "fitted.safetensors"
"""State of the modules that are solved in closed form."""

WEIGHTS_FILE = "student.safetensors"
"""Weights of the trained model of a part, in the part's folder."""

EVALUATION_FILE = "evaluation.json"

SUMMARY_FILE = "summary.json"
"""The rows of the table. It is written last: a run that has it is finished."""

ALONE = "alone"
"""The part in which the control is trained: the same student without a teacher."""

INHERITED = "inherited"
"""The part in which a second control is trained: like `alone`, but from the weights inherited from the teacher."""


def pretraining_of(teacher: str) -> str:
    """Return the part in which a teacher is trained: `teacher`, or `teacher-NAME`."""
    return teacher if teacher == TEACHER else f"teacher-{teacher}"


def part_folder(folder: Path, part: str) -> Path:
    """Return the folder of one part of a run."""
    return folder if part == STUDENT else folder / part


def has_checkpoint(folder: Path) -> bool:
    """Return whether any part of a run has written a checkpoint."""
    return any(folder.glob("checkpoints/*.pt")) or any(folder.glob("*/checkpoints/*.pt"))
