"""Weights that an installed package brings: `zoo:pynet` is `weights/pynet.safetensors` in the package `zoo`."""

import hashlib
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from compresskit.errors import CheckpointError, close_names
from compresskit.files import read_json

_REFERENCE = re.compile(r"([A-Za-z_]\w+):([\w.-]+)")
"""A package and a name. A drive's single letter is no package."""


def weights_path(reference: str | Path) -> Path:
    """Return the file for `PACKAGE:NAME`, and any other path as it is.

    Nothing of the package is imported. The file's SHA-256 must be the one on its card `NAME.json`.

    Raises:
        CheckpointError: There is no such package or name, or the file is damaged.
    """
    match = _REFERENCE.fullmatch(str(reference))
    if match is None:
        return Path(reference)
    package, name = match.groups()
    files = _files_of(package)
    if name not in files:
        raise CheckpointError(f"the package {package!r} has no weights {name!r}{close_names(name, files)}")
    path = files[name]
    card = read_json(path.with_suffix(".json"))
    expected = card.get("sha256") if isinstance(card, Mapping) else None
    if hashlib.sha256(path.read_bytes()).hexdigest() != expected:
        raise CheckpointError(f"{path} is damaged: its SHA-256 is not the one on its card; install {package} again")
    return path


def _files_of(package: str) -> dict[str, Path]:
    """Return the files of weights that a package brings, by name.

    Raises:
        CheckpointError: There is no such package.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise CheckpointError(f"weights of the package {package!r}: there is no such package")
    folders = [Path(location) / "weights" for location in spec.submodule_search_locations]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.safetensors"))}
