"""Trained networks that come with the package, each with a card.

`NAME.safetensors` holds the weights in half precision; its card `NAME.json` the recipe, the commit, the data with their
licences, the machine, the time, the figures and the SHA-256. Recipes name them as `weights: zoo:NAME`.

- `ship`: makes such a pair of a finished run.
"""

from pathlib import Path
from typing import Any

from torch import nn

from compresskit.errors import CheckpointError, close_names
from compresskit.files import read_json


def names() -> list[str]:
    """Return the names of all networks."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.safetensors"))


def load(name: str) -> nn.Module:
    """Return a trained network in float32, in eval mode, on the CPU.

    Raises:
        CheckpointError: There is no such network, or its file is damaged.
    """
    from compresskit import load_model

    return load_model(f"zoo:{name}").model


def card(name: str) -> dict[str, Any]:
    """Return the card of a network: its recipe, data, figures and SHA-256.

    Raises:
        CheckpointError: There is no such network.
    """
    if name not in names():
        raise CheckpointError(f"the package 'zoo' has no weights {name!r}{close_names(name, names())}")
    return read_json(Path(__file__).parent / f"{name}.json")
