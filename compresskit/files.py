"""Files that are complete or absent after a crash: text and JSON; records and tensors, whose damage is noticed."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from compresskit.checksums import KEY, checked_record, state_checksum, with_checksum
from compresskit.errors import CheckpointError, first_line


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a path beside `path`, and move the file to `path` only when it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        write(part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file that is complete or absent after a crash."""
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_json(path: Path, data: Any) -> None:
    """Write a JSON file that is complete or absent after a crash."""
    write_text(path, json.dumps(data, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; None if there is no such file.

    Raises:
        CheckpointError: The file is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); remove it, and --resume makes it again") from None


def write_records(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write records as a JSON list, each with its checksum; the file is complete or absent after a crash."""
    write_json(path, [with_checksum(record) for record in records])


def read_records(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """Return the intact records of a file, without their checksums, and whether all of it is intact.

    Where there is no such file there are no records, and nothing is damaged.
    """
    try:
        content = read_json(path)
    except (CheckpointError, OSError):
        return [], False
    if content is None:
        return [], True
    records = [checked_record(record) for record in content] if isinstance(content, list) else [None]
    intact = [record for record in records if record is not None]
    return intact, len(intact) == len(records)


def write_state(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors by name as a safetensors file, with their checksum in its metadata.

    Tensors that share memory are written separately, for any loader.
    """
    state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    header, values = _with_metadata(save(state), {"format": "pt", KEY: state_checksum(state)})

    def write(part: Path) -> None:
        with part.open("wb") as file:
            file.write(header)
            file.write(values)

    write_atomically(path, write)


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file by name.

    Raises:
        CheckpointError: The file is damaged, or is something else.
        FileNotFoundError: There is no such file.
    """
    try:
        return load_state(path)
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged, or is no safetensors file: {first_line(error)}") from error


def load_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file by name, checked against the checksum in its metadata if there is one.

    Raises:
        SafetensorError: The file is something else.
        ValueError: The file is damaged.
    """
    with safe_open(path, framework="pt") as file:
        expected = (file.metadata() or {}).get(KEY)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    if expected not in (None, state_checksum(tensors)):
        raise ValueError("its checksum is not that of its tensors")
    return tensors


def _with_metadata(content: bytes, metadata: Mapping[str, str]) -> tuple[bytes, memoryview]:
    """Return the two parts of a safetensors file, with metadata: `save` would write them in another order each time."""
    size = int.from_bytes(content[:8], "little")
    header = {"__metadata__": metadata, **json.loads(content[8 : 8 + size])}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text, memoryview(content)[8 + size :]


def _sync_folder(folder: Path) -> None:
    """Write a folder's list of names to the disk, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
