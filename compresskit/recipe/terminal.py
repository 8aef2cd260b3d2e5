"""Text for people: notes on standard error, lists in words."""

import sys
from collections.abc import Sequence
from typing import Any

from compresskit.distill.processes import is_main


def say(text: str) -> None:
    """Write a note to standard error, once for all processes of a run."""
    if is_main():
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def words(values: Sequence[Any]) -> str:
    """Return a list in words: `a, b and c`."""
    *most, last = map(str, values)
    return f"{', '.join(most)} and {last}" if most else last
