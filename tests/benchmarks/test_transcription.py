"""The transcriptions compute the same as the networks, in every module that a tap can name."""

import pytest
import torch

from tests.benchmarks.transcription import ReleasedPyNET, ReleasedPyNETQxQ
from zoo.pynet import PyNET, PyNETQxQ

SIDE_HEADS = {f"conv_l{level}_out" for level in (1, 2, 3, 4, 5)}


def outputs(network, packed):
    """Return the output of each module by name; '' is the network."""
    tensors = {}
    for name, part in network.named_modules():
        part.register_forward_hook(lambda _module, _inputs, output, name=name: tensors.update({name: output.clone()}))
    with torch.no_grad():
        network(packed)
    return tensors


def assert_same(ours, plain, packed, pictures):
    """Compare pictures in float32, all modules in float64: untrained norms divide by so little that rounding grows."""
    plain.load_state_dict(ours.state_dict(), strict=True)
    actual, expected = outputs(ours, packed), outputs(plain, packed)
    for name in pictures:
        torch.testing.assert_close(actual[name], expected[name], atol=1e-5, rtol=0)
    actual, expected = outputs(ours.double(), packed.double()), outputs(plain.double(), packed.double())
    assert actual.keys() <= expected.keys()  # the transcription has more: padding and activations are modules there
    for name, output in actual.items():
        torch.testing.assert_close(output, expected[name], atol=1e-6, rtol=0, msg=f"{name!r} differs")


@pytest.mark.parametrize("norm", [True, False])
def test_the_plain_transcription_is_the_same_network(norm):
    torch.manual_seed(0)
    ours, plain = PyNETQxQ(2, instance_norm_level_1=norm), ReleasedPyNETQxQ(2, norm=norm)
    assert_same(ours, plain, torch.rand(2, 4, 16, 24), {""})


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("norm_1", [True, False])
def test_the_plain_transcription_of_pynet_is_the_same_network_with_its_side_heads(norm, norm_1):
    torch.manual_seed(0)
    ours, plain = PyNET(2, instance_norm=norm, instance_norm_level_1=norm_1), ReleasedPyNET(2, norm=norm, norm_1=norm_1)
    assert_same(ours, plain, torch.rand(2, 4, 32, 48), {"", *SIDE_HEADS})
