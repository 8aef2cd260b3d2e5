import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from compresskit.errors import CheckpointError, at
from compresskit.files import load_weights


def _model(width=3):
    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))


@pytest.fixture
def saved(tmp_path):
    """Weights in each of the forms that are read."""
    state = _model().state_dict()
    save_file(state, tmp_path / "plain.safetensors")
    torch.save(state, tmp_path / "plain.pth")
    torch.save({f"module.{key}": tensor for key, tensor in state.items()}, tmp_path / "parallel.pt")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "wrapped.pt")
    return tmp_path, state


@pytest.mark.parametrize("name", ["plain.safetensors", "plain.pth", "parallel.pt", "wrapped.pt"])
def test_saved_weights_are_loaded_unchanged(saved, name):
    folder, state = saved
    model = _model()
    load_weights(model, folder / name)
    assert all(tensor.equal(state[key]) for key, tensor in model.state_dict().items())


def test_weights_of_another_architecture_name_the_first_difference_and_change_nothing(saved):
    folder, _ = saved
    model = _model(4)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    difference = r"'0\.weight' is \(3, 2\) in the file and \(4, 2\) in the model"
    title = r"^teacher\.weights: .* does not fit Sequential"
    with pytest.raises(CheckpointError, match=rf"{title}: {difference}$"), at("teacher", "weights"):
        load_weights(model, folder / "plain.safetensors")
    assert all(tensor.equal(before[key]) for key, tensor in model.state_dict().items())


def test_missing_and_spare_keys_are_named_with_the_nearest(saved):
    folder, state = saved
    state["0.wieght"] = state.pop("0.weight")
    save_file(state, folder / "renamed.safetensors")
    with pytest.raises(CheckpointError, match=r"'0\.weight' \(3, 2\) is not in the file; did you mean '0\.wieght'\?"):
        load_weights(_model(), folder / "renamed.safetensors")
    state["0.weight"] = state["0.wieght"].clone()
    save_file(state, folder / "spare.safetensors")
    with pytest.raises(CheckpointError, match=r"'0\.wieght' \(3, 2\) is not in the model"):
        load_weights(_model(), folder / "spare.safetensors")


class _Payload:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"0.weight": _Payload()}, "evil.pt")
    message = r"^teacher\.weights: evil\.pt is damaged, or holds more than tensors"
    with pytest.raises(CheckpointError, match=message), at("teacher", "weights"):
        load_weights(_model(), "evil.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["plain.safetensors", "plain.pth", "parallel.pt"])
@pytest.mark.parametrize("size", [0, 10, 600])
def test_a_truncated_file_is_refused(saved, name, size):
    folder, _ = saved
    with (folder / name).open("r+b") as file:
        file.truncate(size)
    with pytest.raises(CheckpointError, match="is damaged"):
        load_weights(_model(), folder / name)


def test_a_missing_file_is_reported_with_similar_names_in_its_folder(saved):
    folder, _ = saved
    with pytest.raises(CheckpointError, match=r"no file '.*plian\.safetensors'; did you mean 'plain\.safetensors'"):
        load_weights(_model(), folder / "plian.safetensors")
    with pytest.raises(CheckpointError, match=r"no file 'nowhere/x\.pt': there is no folder 'nowhere'"):
        load_weights(_model(), "nowhere/x.pt")


def test_a_file_that_does_not_hold_weights_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"epoch": 3}, tmp_path / "number.pt")
    (tmp_path / "x.onnx").touch()
    for name, message in {
        "list.pt": "is not a mapping of names to tensors, it holds list",
        "number.pt": "is not a mapping of names to tensors, it holds the keys epoch",
        "x.onnx": "weights are a .safetensors, .pt or .pth file, got",
    }.items():
        with pytest.raises(CheckpointError, match=message):
            load_weights(_model(), tmp_path / name)
