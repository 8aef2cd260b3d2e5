"""What is measured against computes the same."""

import pytest
import torch

from tests.benchmarks.transcription import ReleasedPyNET, ReleasedPyNETQxQ
from zoo.pynet import PyNET, PyNETQxQ

HEADS = [f"conv_l{level}_out" for level in (1, 2, 3, 4, 5)]


def pictures(network, packed):
    """The network's output and its side heads', by name."""
    found = {}
    for name in HEADS:
        keep = lambda _module, _inputs, output, name=name: found.update({name: output})  # noqa: E731
        network.get_submodule(name).register_forward_hook(keep)
    with torch.no_grad():
        found["."] = network(packed)
    return found


@pytest.mark.parametrize("norm", [True, False])
def test_the_plain_transcription_is_the_same_network(norm):
    torch.manual_seed(0)
    ours, plain = PyNETQxQ(2, instance_norm_level_1=norm).eval(), ReleasedPyNETQxQ(2, norm=norm).eval()
    plain.load_state_dict(ours.state_dict())
    packed = torch.rand(2, 4, 16, 24)
    with torch.no_grad():
        torch.testing.assert_close(plain(packed), ours(packed), atol=1e-6, rtol=0)


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("norm_1", [True, False])
def test_the_plain_transcription_of_pynet_is_the_same_network_with_its_side_heads(norm, norm_1):
    torch.manual_seed(0)
    ours, plain = PyNET(2, instance_norm=norm, instance_norm_level_1=norm_1), ReleasedPyNET(2, norm=norm, norm_1=norm_1)
    plain.load_state_dict(ours.state_dict())
    packed = torch.rand(2, 4, 32, 48)
    expected, found = pictures(plain, packed), pictures(ours, packed)
    assert found.keys() == {*HEADS, "."}
    for name, picture in found.items():
        torch.testing.assert_close(picture, expected[name], atol=1e-5, rtol=0)
