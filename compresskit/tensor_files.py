"""Tensors from files that anybody may have written: nothing in them can run code, and damage is told in plain words."""

import re
from pathlib import Path
from typing import Any

from compresskit.errors import CheckpointError, first_line

_PAGE = re.compile(rb"\s*<(!doctype|html|\?xml|head|body)", re.IGNORECASE)


def read_tensors(path: Path) -> Any:
    """Return what a `.safetensors` file holds, or what `torch.save` wrote, on the CPU.

    Raises:
        CheckpointError: The file is something else, is damaged, or holds more than tensors and plain values.
    """
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or first_line(error)}") from None
    except MemoryError:
        raise CheckpointError(f"{path} asks for more memory than there is: it is damaged, or too large") from None
    except Exception as error:  # noqa: BLE001  (torch's readers raise whatever a wrong byte leads to)
        reason = _reason(path, error)
        raise CheckpointError(f"{path} is damaged, or holds more than tensors{reason and f': {reason}'}") from None


def _reason(path: Path, error: Exception) -> str:
    """Return what a file that cannot be read is, or what is wrong with it, as far as it can be told."""
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        return "it is empty"
    if start.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS; fetch the file itself with `git lfs pull`"
    if _PAGE.match(start):
        return "it is a web page, which was downloaded in place of the file"
    if _is_text(start):
        return "it is text"
    if path.suffix == ".safetensors":
        return first_line(error)
    if names := re.findall(r"GLOBAL ([\w.]+)", str(error)):  # torch's own advice is to trust the file
        return f"it names {names[0]}; save the model's state_dict() alone"
    return ""


def _is_text(start: bytes) -> bool:
    printable = sum(32 <= byte < 127 or byte in b"\t\n\r" for byte in start)
    return len(start) > 1 and printable == len(start)
