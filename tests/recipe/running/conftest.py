"""What a run's folder holds: its files, and the weights of its parts."""

from pathlib import Path

import pytest
from safetensors.torch import load_file


def _files(folder):
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}


def _equal(one, other):
    return one.keys() == other.keys() and all(tensor.equal(other[name]) for name, tensor in one.items())


def _weights(folder, part="."):
    return load_file(Path(folder) / part / "student.safetensors")


def _same_weights(one, other, parts=("teacher", ".", "alone")):
    return all(_equal(_weights(one, part), _weights(other, part)) for part in parts)


@pytest.fixture
def files():
    """Return the names of all files in a folder."""
    return _files


@pytest.fixture
def equal():
    """Return whether two states hold the same tensors, bit for bit."""
    return _equal


@pytest.fixture
def weights():
    """Return the weights of one part of a run."""
    return _weights


@pytest.fixture
def same_weights():
    """Return whether two folders hold the same weights of each part, bit for bit."""
    return _same_weights
