"""The files in a run's folder. Each part of a run but the student's has a folder of its own inside."""

import re
from pathlib import Path
from zlib import crc32

from compresskit.distill.spec.address import STUDENT, TEACHER

RECIPE_FILE = "recipe.yaml"
"""The resolved recipe. It is written first: a folder that has it holds a run."""

ENVIRONMENT_FILE = "environment.json"

FITTED_FILE = "fitted.safetensors"
"""State of the modules that are solved in closed form."""

WEIGHTS_FILE = "student.safetensors"
"""Weights of the trained model of a part, in the part's folder."""

EVALUATION_FILE = "evaluation.json"

DAMAGED_RECIPE_FILE = "recipe.damaged.yaml"
"""A recipe file that was not as the run had written it, when the run was resumed."""

SUMMARY_FILE = "summary.json"
"""The rows of the table. It is written last: a run that has it is finished."""

ALONE = "alone"
"""The part in which the control is trained: the same student without a teacher."""

INHERITED = "inherited"
"""The part in which a second control is trained: like `alone`, but from the weights inherited from the teacher."""

_LAST_LINE = re.compile(r"# crc32 of the lines above: ([0-9a-f]{8})\n?\Z")


def pretraining_of(teacher: str) -> str:
    """Return the part in which a teacher is trained: `teacher`, or `teacher-NAME`."""
    return teacher if teacher == TEACHER else f"teacher-{teacher}"


def part_folder(folder: Path, part: str) -> Path:
    """Return the folder of one part of a run."""
    return folder if part == STUDENT else folder / part


def has_checkpoint(folder: Path) -> bool:
    """Return whether any part of a run has written a checkpoint."""
    return any(folder.glob("checkpoints/*.pt")) or any(folder.glob("*/checkpoints/*.pt"))


def recipe_damage(folder: Path) -> str | None:
    """Return a line about a run's recipe that is not as the run wrote it, or None."""
    path = folder / RECIPE_FILE
    try:
        unchanged = is_unchanged(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        unchanged = False
    except OSError:
        return None  # whoever reads it says more
    return None if unchanged else f"{path} is not as the run wrote it: it is damaged, or was edited"


def signed_text(text: str) -> str:
    """Return a text of whole lines with a last one that holds their checksum, as a comment."""
    return f"{text}# crc32 of the lines above: {crc32(text.encode()):08x}\n"


def is_unchanged(text: str) -> bool:
    """Return whether a text is as `signed_text` returned it; one without a checksum passes."""
    signature = _LAST_LINE.search(text)
    return signature is None or crc32(text[: signature.start()].encode()) == int(signature[1], 16)
