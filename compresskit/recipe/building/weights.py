"""A model's weights from a file: all of them or none. Nothing in the file can run code."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compresskit.errors import CheckpointError, close_names, first_line
from compresskit.files import read_state

_PREFIX = "module."
"""The beginning of every name in a model that DataParallel wraps."""


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
    state = read_state(path) if path.suffix == ".safetensors" else _pickled(path)
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        content = (
            f"the keys {', '.join(map(str, list(state)[:5]))}" if isinstance(state, Mapping) else type(state).__name__
        )
        raise CheckpointError(f"{path} is not a mapping of names to tensors, it holds {content}")
    return {str(key): tensor for key, tensor in state.items()}


def _pickled(path: Path) -> Any:
    if path.suffix not in (".pt", ".pth"):
        raise CheckpointError(f"weights are a .safetensors, .pt or .pth file, got {str(path)!r}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} is damaged, or holds more than tensors: {first_line(error)}") from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged, or is no file of torch.save: {error}") from error


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def _neighbours(path: Path) -> str:
    if not path.parent.is_dir():
        return f": there is no folder {str(path.parent)!r}"
    files = [other.name for other in path.parent.iterdir() if other.suffix in (".safetensors", ".pt", ".pth")]
    return close_names(path.name, sorted(files)) if files else ""
