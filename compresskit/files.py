"""Files that are complete or absent after a crash: text, JSON and weights. Nothing that is read can run code."""

import json
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compresskit.errors import CheckpointError, close_names, first_line

_SUFFIXES = (".safetensors", ".pt", ".pth")

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
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged ({error}); remove it, and --resume makes it again") from None


def write_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors; those that share memory are written separately, for any loader."""
    from safetensors.torch import save

    content = save({name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()})
    write_atomically(path, lambda part: part.write_bytes(content))


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
        CheckpointError: There is no such file, or it does not hold weights.
    """
    if not path.is_file():
        raise CheckpointError(f"no file {str(path)!r}{_neighbours(path)}")
    state = _content(path)
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        content = (
            f"the keys {', '.join(map(str, list(state)[:5]))}" if isinstance(state, Mapping) else type(state).__name__
        )
        raise CheckpointError(f"{path} is not a mapping of names to tensors, it holds {content}")
    return {str(key): tensor for key, tensor in state.items()}


def _content(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix not in _SUFFIXES:
        raise CheckpointError(f"weights are a .safetensors, .pt or .pth file, got {str(path)!r}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise CheckpointError(f"{path} is damaged, or holds more than tensors: {first_line(error)}") from error


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def _neighbours(path: Path) -> str:
    if not path.parent.is_dir():
        return f": there is no folder {str(path.parent)!r}"
    files = [other.name for other in path.parent.iterdir() if other.suffix in _SUFFIXES]
    return close_names(path.name, sorted(files)) if files else ""
