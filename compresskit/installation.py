"""The import path without the current folder: a recipe's folder is data, and a file in it must not pass for a library.

Python itself puts the folder on the path: at `python -m compresskit`, in an interpreter, and for an empty entry or a
`.` of PYTHONPATH. This file imports nothing but the standard library, because `__main__` needs it first.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]
"""The folder that compresskit itself was imported from: `site-packages`, or a checkout."""


@contextmanager
def without_current_folder() -> Iterator[None]:
    """Import from the installation alone inside the block.

    If compresskit itself was imported from the current folder, as in a checkout, the folder stays, but last: what is
    in it never hides an installed package.
    """
    before = list(sys.path)
    sys.path[:] = [entry for entry in before if not _is_here(entry)]
    if _is_here(str(HOME)):
        sys.path.append(str(HOME))
    try:
        yield
    finally:
        sys.path[:] = before


def _is_here(entry: str) -> bool:
    """Return whether an entry of the import path is the current folder, however it is written."""
    try:
        return Path(entry or ".").samefile(".")
    except OSError:  # an entry that does not exist
        return False
