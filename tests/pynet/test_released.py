"""Checkpoints with the published names."""

import pytest
import torch

from compresskit import load_model
from compresskit.errors import CheckpointError
from zoo.pynet import PyNET, PyNETQxQ
from zoo.pynet.released import network_of

NETWORKS = [
    PyNETQxQ(2),
    PyNETQxQ(3, instance_norm_level_1=False),
    PyNET(2),
    PyNET(2, instance_norm_level_1=False),
    PyNET(2, instance_norm=False, instance_norm_level_1=False),
]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_network_is_recognised_by_its_weights(network, prefix, tmp_path):
    torch.save({f"{prefix}{name}": tensor for name, tensor in network.state_dict().items()}, tmp_path / "best.pth")
    loaded = load_model(tmp_path / "best.pth", otherwise=network_of).model
    packed = torch.rand(1, 4, 32, 32)
    with torch.no_grad():
        assert type(loaded) is type(network)
        assert torch.equal(loaded(packed), network.eval()(packed))


@pytest.mark.parametrize(("network", "names"), [(PyNETQxQ, 212), (PyNET, 542)])
def test_a_missing_name_and_an_unknown_one_are_refused(network, names, tmp_path):
    state = network(2).state_dict()
    assert len(state) == names
    cut = dict(list(state.items())[:-1])
    torch.save(cut, tmp_path / "cut.pth")
    with pytest.raises(CheckpointError, match=r"'conv_l0_d1.conv2d.bias' \(3,\) is not in the file"):
        load_model(tmp_path / "cut.pth", otherwise=network_of)
    torch.save({**state, "extra.weight": torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(CheckpointError, match=r"'extra.weight' \(1,\) is not in the model"):
        load_model(tmp_path / "more.pth", otherwise=network_of)


def test_other_weights_are_refused(skip):
    with pytest.raises(CheckpointError, match=r"neither PyNET nor PyNET-QxQ: there is no 'conv_l1_d1', but fc.weight"):
        network_of({"fc.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="need the recipe that they were trained by"):
        network_of(PyNETQxQ(2, skip=skip).state_dict())
