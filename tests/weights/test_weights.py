"""Trained networks that come with the package: files, cards, and the ways to name them."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from compresskit import load_model
from compresskit.errors import CheckpointError
from compresskit.recipe.building.components import build_model
from compresskit.recipe.reading.load import load_recipe
from compresskit.recipe.reading.shipped import weights_path
from zoo import weights
from zoo.pynet import PyNET, PyNETQxQ
from zoo.weights.ship import ship

FOLDER = Path(weights.__file__).parent


@pytest.mark.parametrize("name", weights.names())
def test_a_card_belongs_to_its_file_and_says_where_it_comes_from(name):
    card, file = weights.card(name), FOLDER / f"{name}.safetensors"
    assert card["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert file.stat().st_size < 25_000_000
    for fact in ("commit", "steps", "machine", "hours", "data", "history", "figures", "recipe"):
        assert card[fact], fact
    assert "licence" in json.dumps(card["data"])


@pytest.mark.parametrize(("name", "network"), [("pynet", PyNET), ("pynet_qxq", PyNETQxQ)])
def test_a_network_is_loaded_by_its_name_in_float32(name, network):
    model = weights.load(name)
    assert isinstance(model, network)
    assert not model.training
    assert sum(parameter.numel() for parameter in model.parameters()) == weights.card(name)["parameters"]
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}
    with safe_open(FOLDER / f"{name}.safetensors", "pt") as file:
        assert all(file.get_tensor(key).dtype == torch.float16 for key, _ in model.named_parameters())


def test_a_shipped_network_is_better_than_the_linear_filters_that_it_starts_from(photographs):
    for name in weights.names():
        model = weights.load(name)
        with torch.inference_mode():
            errors = [
                ((method(mosaic[None]).clamp(0, 1) - picture)[..., 16:-16, 16:-16]).square().mean()
                for method in (model, model.skip)
                for mosaic, picture in photographs
            ]
        network, linear = torch.stack(errors).reshape(2, -1)
        assert (network < linear).all(), name


@pytest.fixture
def photographs():
    """Packed mosaics and pictures of 128 x 128 pixels from photographs that the networks have not seen."""
    from zoo.raw import PhotographFrames

    frames = PhotographFrames(photographs="bundled:test")
    return [
        (mosaic[..., 32:96, 32:96], picture[..., 64:192, 64:192])
        for mosaic, picture in map(frames.__getitem__, range(3))
    ]


def test_a_recipe_names_a_shipped_network(tmp_path):
    options = "width: 16, instance_norm_level_1: false, skip: {_target_: zoo.raw.LMMSEPhase}"
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"student: {{_target_: zoo.pynet.PyNETQxQ, {options}, weights: zoo:pynet_qxq}}\n"
        "data: {train: {_target_: zoo.raw.PhotographCrops, photographs: bundled:train}}\n"
        "stages: [{name: s, steps: 1, tasks: [mse]}]\n"
    )
    built, loaded = build_model(load_recipe(recipe), "student"), weights.load("pynet_qxq")
    for name, tensor in loaded.state_dict().items():
        assert tensor.equal(built.state_dict()[name]), name


def test_a_shipped_network_is_exported_by_its_name(tmp_path):
    from compresskit.recipe.running.export import export_model

    out = tmp_path / "net.pt2"
    data = ["data.train.photographs=bundled:train", "data.test.photographs=bundled:test"]
    export_model("zoo:pynet_qxq", out, format="pt2", overrides=data, size="32x32")
    assert out.stat().st_size > 0


def test_an_unknown_package_or_name_is_refused():
    with pytest.raises(CheckpointError, match="no weights 'pynt'; did you mean 'pynet'"):
        weights_path("zoo:pynt")
    with pytest.raises(CheckpointError, match="no weights 'pynt'; did you mean 'pynet'"):
        weights.card("pynt")
    with pytest.raises(CheckpointError, match="package 'zooo': there is no such package"):
        weights_path("zooo:pynet")
    with pytest.raises(CheckpointError, match="there is no such package"):
        weights_path("__main__:pynet")
    assert weights_path(r"C:\weights\a.pth") == Path(r"C:\weights\a.pth")
    assert weights_path("runs/a.safetensors") == Path("runs/a.safetensors")


def test_a_damaged_file_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "brought" / "weights"
    folder.mkdir(parents=True)
    (tmp_path / "brought" / "__init__.py").write_text("raise SystemExit('imported')")
    content = bytearray((FOLDER / "pynet_qxq.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "net.safetensors").write_bytes(content)
    (folder / "net.json").write_text((FOLDER / "pynet_qxq.json").read_text())
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CheckpointError, match="is damaged: its SHA-256 is not the one on its card"):
        load_model("brought:net")


def test_a_finished_run_is_made_a_shipped_network(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text(
        "name: r\nstudent: {_target_: torch.nn.Linear, in_features: 3, out_features: 2}\n"
        "data: {train: {_target_: zoo.classify.Digits}}\nstages: [{name: s, steps: 4, tasks: [mse]}]\n"
    )
    from safetensors.torch import save_file

    state = torch.nn.Linear(3, 2).state_dict()
    save_file(state, run / "student.safetensors")
    (run / "environment.json").write_text(
        json.dumps([{"commit": "abc", "device": "cpu", "threads": 1, "platform": "Linux"}])
    )
    (run / "metrics.jsonl").write_text('{"global_step": 3}\n')
    facts = {"data": "d", "hours": 1.0, "history": "h", "figures": {"psnr": 1.0}}
    with pytest.raises(ValueError, match="missing figures"):
        ship(run, "net", {"data": "d", "hours": 1.0, "history": "h"}, tmp_path)
    ship(run, "net", facts, tmp_path)
    card = json.loads((tmp_path / "net.json").read_text())
    assert (card["steps"], card["commit"], card["parameters"]) == (4, "abc", 8)
    model = load_model(tmp_path / "net.safetensors").model
    assert model.weight.equal(state["weight"].half().float())
