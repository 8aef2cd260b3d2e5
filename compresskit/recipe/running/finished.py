"""Finished runs: whether a folder holds one, with all its files whole."""

import json
from collections.abc import Iterator
from pathlib import Path

from compresskit.errors import CheckpointError
from compresskit.files import read_json, read_weights
from compresskit.recipe.run_files import SUMMARY_FILE, has_checkpoint
from compresskit.recipe.scoring.measure import stored_rows
from compresskit.recipe.terminal import say


def is_finished(folder: Path) -> bool:
    """Return whether a folder holds a finished run, with nothing in it that should be written again.

    Damage is named. Where there is no checkpoint any more from which a file could be written again, the run counts as
    finished all the same.
    """
    if not (folder / SUMMARY_FILE).exists():
        return False
    damage = list(_damage(folder))
    for line in damage:
        say(line)
    if damage and not has_checkpoint(folder):
        say(f"{folder} has no checkpoints to write that again from")
        return True
    return not damage


def _damage(folder: Path) -> Iterator[str]:
    """Yield a line about each file of a finished run that is damaged, among those that are read again."""
    path = folder / SUMMARY_FILE
    try:
        summary = json.dumps(read_json(path))
    except CheckpointError:
        summary = None
    if summary != json.dumps([row.summary() for row in stored_rows(folder)]):  # as text, where NaN equals NaN
        yield f"{path} is damaged, or the rows that it was written from are"
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*/*.safetensors")]):
        try:
            read_weights(path)
        except (CheckpointError, OSError) as error:
            yield str(error)
