"""PyNET and PyNET-QxQ alone, as they were released."""

import pytest
import torch
from torch import nn

from compresskit.errors import ShapeError
from zoo.pynet import PyNET, PyNETQxQ
from zoo.pynet.blocks import InstanceNorm2d

SIDE_HEADS = ("conv_l5_out", "conv_l4_out", "conv_l3_out", "conv_l2_out", "conv_l1_out")


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        ({}, 47_554_738),
        ({"instance_norm_level_1": False}, 47_551_666),
        ({"instance_norm": False, "instance_norm_level_1": False}, 47_527_602),
    ],
)
def test_pynet_has_the_released_number_of_parameters(options, parameters):
    with torch.device("meta"):
        assert count(PyNET(**options)) == parameters


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        ({}, 1_074_126),
        ({"instance_norm_level_1": False}, 1_072_590),
        ({"width": 8}, 269_430),
        ({"width": 12}, 604_866),
        ({"width": 24}, 2_414_118),
        ({"width": 32}, 4_289_406),
    ],
)
def test_pynet_qxq_has_the_released_number_of_parameters(options, parameters):
    with torch.device("meta"):
        assert count(PyNETQxQ(**options)) == parameters


def test_keys_are_those_of_the_released_checkpoints():
    with torch.device("meta"):
        student, teacher = PyNETQxQ().state_dict(), PyNET().state_dict()
    assert (len(student), len(teacher)) == (212, 542)
    shared = {
        "conv_l1_d1.conv_3a.conv2d.weight",
        "conv_l1_d9.conv_9b.conv2d.bias",
        "conv_l1_d12.conv_5a.instance.weight",
    }
    assert shared | {"conv_t0.upchannel.weight", "conv_l0_d1.conv2d.weight"} <= student.keys()
    own = {f"{head}.conv2d.weight" for head in SIDE_HEADS} | {
        f"conv_t{k}{x}.conv2d.weight" for k in "4321" for x in "ab"
    }
    assert shared | own | {"conv_t0.conv2d.weight", "conv_l0_d1.conv2d.bias"} <= teacher.keys()
    assert tuple(student["conv_t0.upchannel.weight"].shape) == (64, 16, 3, 3)
    assert tuple(student["conv_l0_d1.conv2d.weight"].shape) == (3, 17, 3, 3)


@pytest.mark.parametrize(
    ("network", "options", "normalised"),
    [
        (PyNETQxQ, {}, {1}),
        (PyNETQxQ, {"instance_norm_level_1": False}, set()),
        (PyNET, {}, {1, 2, 3, 4, 5}),
        (PyNET, {"instance_norm_level_1": False}, {2, 3, 4, 5}),
        (PyNET, {"instance_norm": False}, {1}),
    ],
)
def test_instance_norm_is_where_the_flags_say(network, options, normalised):
    names = [name for name, part in network(width=2, **options).named_modules() if isinstance(part, nn.InstanceNorm2d)]
    assert {int(name.removeprefix("conv_l")[0]) for name in names} == normalised
    in_level_1 = {name.split(".")[0] for name in names if name.startswith("conv_l1_")}
    inside = {f"conv_l1_d{block}" for block in (5, 6, 7, 8, 9, 10, 12)}
    assert in_level_1 == (inside if 1 in normalised else set())


@pytest.mark.parametrize("network", [PyNET, PyNETQxQ])
def test_a_picture_has_twice_the_packed_sides_and_values_from_0_to_1(network):
    picture = network(width=2)(torch.rand(2, 4, 32, 48))
    assert picture.shape == (2, 3, 64, 96)
    assert picture.min() >= 0
    assert picture.max() <= 1


def channels(network):
    """Return the number of output channels of each block of level 1."""
    channels: dict[str, int] = {}
    for name, part in network.named_children():
        if name.startswith("conv_l1_d"):
            part.register_forward_hook(lambda _m, _i, out, name=name: channels.update({name: out.shape[1]}))
    network(torch.rand(1, 4, 32, 32))
    return channels


def test_a_block_of_the_student_has_half_the_output_channels_of_its_teachers():
    student, teacher = channels(PyNETQxQ(width=2)), channels(PyNET(width=4))
    assert len(student) == 10
    assert {name: 2 * count for name, count in student.items()} == teacher


def test_side_heads_return_the_picture_reduced_by_powers_of_two():
    network, sizes = PyNET(width=2), {}
    for name in SIDE_HEADS:
        hook = lambda _module, _inputs, output, name=name: sizes.update({name: tuple(output.shape)})  # noqa: E731
        network.get_submodule(name).register_forward_hook(hook)
    network(torch.rand(1, 4, 32, 64))
    assert sizes == {f"conv_l{k}_out": (1, 3, 64 // 2**k, 128 // 2**k) for k in (5, 4, 3, 2, 1)}


def test_the_students_last_layer_sees_the_mosaic():
    network, inputs = PyNETQxQ(width=2), []
    network.conv_l0_d1.register_forward_pre_hook(lambda _module, args: inputs.append(args[0]))
    packed = torch.rand(1, 4, 8, 8)
    network(packed)
    torch.testing.assert_close(inputs[0][:, -1:], network.cfa.unpack(packed))


@pytest.mark.parametrize(
    ("network", "shape", "message"),
    [
        (PyNETQxQ, (1, 4, 10, 16), "PyNETQxQ: .* multiples of 4 and at least 8 .*, got 10x16; .* 12x16"),
        (PyNETQxQ, (1, 4, 4, 4), "PyNETQxQ: .* got 4x4; .* 8x8"),
        (PyNETQxQ, (1, 1, 16, 16), r"PyNETQxQ takes packed planes \(n, 4, height, width\), got \(1, 1, 16, 16\)"),
        (PyNET, (1, 4, 36, 32), "PyNET: .* multiples of 16 and at least 32 .*, got 36x32; .* 48x32"),
        (PyNET, (1, 4, 16, 16), "PyNET: .* got 16x16; .* 32x32 .*a mosaic of 64x64"),
    ],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_a_size_that_does_not_fit_is_refused_with_the_next_one_that_does(network, shape, message):
    with pytest.raises(ShapeError, match=message):
        network(width=2)(torch.rand(shape))


def test_the_least_sizes_fit_while_training():
    PyNETQxQ(width=2).train()(torch.rand(1, 4, 8, 8))
    PyNET(width=2).train()(torch.rand(1, 4, 32, 32))
    PyNETQxQ(width=2, cfa="nona").train()(torch.rand(1, 4, 6, 9))


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_instance_norm_equals_torchs_in_either_layout(samples, layout):
    ours, theirs = InstanceNorm2d(3, affine=True), nn.InstanceNorm2d(3, affine=True).double()
    for name, parameter in ours.named_parameters():
        nn.init.uniform_(parameter, 0.5, 2.0)
        theirs.get_parameter(name).data.copy_(parameter)
    features = (5 + torch.randn(samples, 3, 200, 200)).contiguous(memory_format=layout).requires_grad_()
    exact = features.detach().contiguous().double().requires_grad_()
    output, expected, slope = ours(features), theirs(exact), torch.randn(samples, 3, 200, 200)
    assert output.is_contiguous(memory_format=layout)
    torch.testing.assert_close(output, expected.float(), atol=1e-5, rtol=0)
    output.backward(slope.contiguous(memory_format=layout))
    expected.backward(slope.double())
    torch.testing.assert_close(features.grad, exact.grad.float(), atol=1e-5, rtol=0)
    for parameter, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad.float(), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("network", [PyNET, PyNETQxQ])
def test_a_picture_is_contiguous_and_the_weights_keep_their_layout(network, norm):
    built = network(width=2, instance_norm_level_1=norm)
    assert built(torch.rand(2, 4, 32, 32)).is_contiguous()
    assert all(parameter.is_contiguous() for parameter in built.parameters())
