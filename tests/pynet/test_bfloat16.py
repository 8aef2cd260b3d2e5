"""Both networks under autocast to bfloat16 on a CPU: what stays in bfloat16, what stays in float32, and gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from zoo.pynet import PyNET, PyNETQxQ
from zoo.pynet.blocks import Head, ReflectedConv2d, without_autocast
from zoo.pynet.skip import SkipFeatures
from zoo.raw import CFA

NETWORKS = pytest.mark.parametrize("network", [PyNET, PyNETQxQ])
NARROW = torch.bfloat16


class Inputs(TorchDispatchMode):
    """A record of the first input of every operation whose name contains a word."""

    def __init__(self, word):
        super().__init__()
        self.word, self.tensors = word, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if self.word in str(func):
            self.tensors.append(args[0])
        return func(*args, **(kwargs or {}))


def autocast():
    return torch.autocast("cpu", dtype=NARROW)


def trained(network, **options):
    """Return a network whose heads are not zero."""
    norm = {"instance_norm": False} if network is PyNET else {}
    built = network(width=4, instance_norm_level_1=False, **norm, **options)
    for part in built.modules():
        if isinstance(part, Head):
            nn.init.normal_(part.conv2d.weight, std=0.1)
    return built


@NETWORKS
def test_borders_of_features_are_reflected_in_bfloat16(network):
    with Inputs("reflection_pad2d") as borders, autocast():
        trained(network)(torch.rand(1, 4, 32, 32))
    packed, *features = borders.tensors
    assert packed.dtype == torch.float32
    assert {tensor.dtype for tensor in features} == {NARROW}


@pytest.mark.parametrize("kernel", [3, 5, 9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_reflected_convolution_is_torchs_own(kernel, dtype):
    ours = ReflectedConv2d(2, 3, kernel).to(dtype)
    torchs = nn.Conv2d(2, 3, kernel, padding=kernel // 2, padding_mode="reflect").to(dtype)
    torchs.load_state_dict(ours.state_dict())
    assert repr(ours).replace("ReflectedConv2d", "Conv2d") == repr(torchs)
    features = torch.rand(1, 2, 8, 10, dtype=dtype)
    assert torch.equal(ours(features), torchs(features))


@pytest.mark.parametrize(("network", "corrects"), [(PyNET, False), (PyNETQxQ, False), (PyNETQxQ, True)])
def test_gradients_point_where_those_of_float32_do(network, corrects, skip):
    torch.manual_seed(0)
    built, cfa = trained(network, skip=skip if corrects else None), CFA.of("qxq")
    target = F.interpolate(torch.rand(2, 3, 8, 8), scale_factor=8, mode="bilinear")
    packed = cfa.pack(cfa.mosaic(target))

    def gradient(*, half):
        built.zero_grad()
        with torch.autocast("cpu", dtype=NARROW, enabled=half):
            picture = built(packed)
        F.mse_loss(picture.float(), target).backward()
        gradients = {name: p.grad for name, p in built.named_parameters() if p.grad is not None}
        assert {tensor.dtype for tensor in gradients.values()} == {torch.float32}
        return torch.cat([tensor.flatten() for tensor in gradients.values()])

    full, half = gradient(half=False), gradient(half=True)
    assert not torch.equal(full, half)
    assert F.cosine_similarity(full, half, dim=0) > 0.999
    assert half.norm() == pytest.approx(full.norm().item(), rel=0.05)


def test_gradients_of_leaky_relus_have_no_gaps():
    built, packed = trained(PyNETQxQ), torch.rand(1, 4, 16, 16)
    with autocast():
        picture = built(packed)
    with Inputs("leaky_relu_backward") as gradients:
        picture.float().square().mean().backward()
    assert len(gradients.tensors) == 56
    assert all(gradient.is_contiguous(memory_format=torch.channels_last) for gradient in gradients.tensors)


@NETWORKS
def test_an_untrained_network_is_its_skip_in_float32(network, skip):
    packed = torch.rand(1, 4, 32, 32)
    with autocast():
        picture = network(width=2, skip=skip)(packed)
    assert picture.dtype == torch.float32
    torch.testing.assert_close(picture, skip(packed))


def test_a_skips_features_differ_in_the_last_digits_only(skip):
    packed, cfa = torch.rand(2, 4, 32, 48), CFA.of("qxq")
    full = SkipFeatures.of(skip, packed, cfa)
    planes = full.planes()
    with autocast():
        half = SkipFeatures.of(skip, packed, cfa)
        torch.testing.assert_close(half.planes(), planes, rtol=1e-4, atol=1e-4)
    for ours, theirs in ((half.picture, full.picture), (half.mean, full.mean), (half.contrast, full.contrast)):
        torch.testing.assert_close(ours, theirs)


def test_autocast_is_off_inside_the_block_only():
    one = torch.rand(2, 2)
    with autocast():
        with without_autocast(one):
            assert (one @ one).dtype == torch.float32
        assert (one @ one).dtype == NARROW
    with without_autocast(one.to("meta")):
        assert not torch.is_autocast_enabled("cpu")
