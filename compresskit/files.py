"""Files that are complete or absent after a crash: text, JSON, records and weights. Nothing that is read can run code.

Records and weights carry a CRC-32 checksum, by which damage is noticed: every flipped bit, and other damage but for a
chance of 2^-32. Those without one were written by earlier versions, or by others, and are read.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from torch import Tensor, nn

from compresskit.errors import CheckpointError, close_names, first_line

CHECKSUM = "crc32"
"""Name of the checksum in a record, and in the metadata of a safetensors file."""

_SUFFIXES = (".safetensors", ".pt", ".pth")

_PAGE = re.compile(rb"\s*<(!doctype|html|\?xml|head|body)", re.IGNORECASE)

_SMALL = 1 << 16
"""Elements below which a tensor is copied before numpy reads it."""

_PREFIX = "module."
"""The beginning of every name in a model that DataParallel wraps."""


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
        raise CheckpointError(f"{path} is damaged ({error})") from None


def write_records(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write records as a JSON list, each with its checksum; the file is complete or absent after a crash."""
    write_json(path, [{**record, CHECKSUM: _record_checksum(record)} for record in records])


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
    records = [_checked(record) for record in content] if isinstance(content, list) else [None]
    intact = [record for record in records if record is not None]
    return intact, len(intact) == len(records)


def write_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors, with a checksum; those that share memory are written separately, for any loader."""
    from safetensors.torch import save

    state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    header, values = _with_metadata(save(state), {"format": "pt", CHECKSUM: state_checksum(state)})

    def write(part: Path) -> None:
        with part.open("wb") as file:
            file.write(header)
            file.write(values)

    write_atomically(path, write)


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Fill `model` from a .safetensors file, or from a .pt or .pth file that holds a mapping of tensors.

    Raises:
        CheckpointError: There is no such file, it cannot be read, or it is another architecture's: the message names
            the first key that differs, and both shapes. The model keeps its weights then.
    """
    state = read_weights(Path(path))
    if state and all(key.startswith(_PREFIX) for key in state):
        state = {key.removeprefix(_PREFIX): tensor for key, tensor in state.items()}
    own = model.state_dict()
    title = f"{path} does not fit {type(model).__name__}"
    for key, tensor in own.items():
        if key not in state:
            spare = [other for other in state if other not in own]
            hint = close_names(key, spare, most=1) if spare else ""
            raise CheckpointError(f"{title}: {key!r} {_shape(tensor)} is not in the file{hint}")
        if state[key].shape != tensor.shape:
            raise CheckpointError(
                f"{title}: {key!r} is {_shape(state[key])} in the file and {_shape(tensor)} in the model"
            )
    for key, tensor in state.items():
        if key not in own:
            raise CheckpointError(f"{title}: {key!r} {_shape(tensor)} is not in the model")
    model.load_state_dict(state)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors in a file of weights, by name.

    Raises:
        CheckpointError: There is no such file, it is damaged, or it does not hold weights.
    """
    if not path.is_file():
        raise CheckpointError(f"no file {str(path)!r}{_neighbours(path)}")
    if path.suffix not in _SUFFIXES:
        raise CheckpointError(f"weights are a .safetensors, .pt or .pth file, got {str(path)!r}")
    state = read_tensors(path)
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        content = (
            f"the keys {', '.join(map(str, list(state)[:5]))}" if isinstance(state, Mapping) else type(state).__name__
        )
        raise CheckpointError(f"{path} is not a mapping of names to tensors, it holds {content}")
    return {str(key): tensor for key, tensor in state.items()}


def tensor_bytes(tensor: Tensor) -> memoryview:
    """Return the values of a tensor as bytes, in the order of its indices."""
    flat = tensor.detach().cpu().contiguous().flatten()
    if flat.numel() < _SMALL:  # a storage that numpy has seen can never be resized, and an observer's buffers are
        flat = flat.clone()
    return flat.view(torch.uint8).numpy().data


def tensor_checksum(*tensors: Tensor) -> int:
    """Return the checksum of the values of some tensors."""
    checksum = 0
    for tensor in tensors:
        checksum = crc32(tensor_bytes(tensor), checksum)
    return checksum


def state_checksum(state: Mapping[str, Tensor]) -> str:
    """Return the checksum of a state: names, types, shapes and values, whatever their order."""
    checksum = 0
    for name in sorted(state):
        title = f"{name} {state[name].dtype} {tuple(state[name].shape)}"
        checksum = crc32(tensor_bytes(state[name]), crc32(title.encode(), checksum))
    return f"{checksum:08x}"


def read_tensors(path: Path) -> Any:
    """Return what a `.safetensors` file holds, or what `torch.save` wrote, on the CPU.

    Raises:
        CheckpointError: The file is something else, is damaged, or holds more than tensors and plain values.
    """
    try:
        if path.suffix == ".safetensors":
            return _checked_tensors(path)
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


def _checked_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, after a comparison with the checksum in its metadata."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        expected = (file.metadata() or {}).get(CHECKSUM)
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


def _checked(record: Any) -> dict[str, Any] | None:
    """Return a record without its checksum, or None if it is damaged."""
    if not isinstance(record, dict):
        return None
    content = {key: value for key, value in record.items() if key != CHECKSUM}
    return content if record.get(CHECKSUM) in (None, _record_checksum(content)) else None


def _record_checksum(record: Mapping[str, Any]) -> str:
    return f"{crc32(json.dumps(record, sort_keys=True).encode()):08x}"


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def _neighbours(path: Path) -> str:
    if not path.parent.is_dir():
        return f": there is no folder {str(path.parent)!r}"
    files = [other.name for other in path.parent.iterdir() if other.suffix in _SUFFIXES]
    return close_names(path.name, sorted(files)) if files else ""


def _sync_folder(folder: Path) -> None:
    """Write a folder's list of names to the disk, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
