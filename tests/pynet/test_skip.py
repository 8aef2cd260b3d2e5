"""Both networks as they correct a skip."""

import math

import pytest
import torch

from compresskit.errors import ShapeError
from zoo.pynet import PyNET, PyNETQxQ
from zoo.pynet.blocks import Head
from zoo.pynet.skip import CHANNELS, CHANNELS_WITH_SKIP, FLOOR, HEAD_UNIT, SkipFeatures

NETWORKS = pytest.mark.parametrize("network", [PyNET, PyNETQxQ])


class Constant(torch.nn.Module):
    """A skip that always returns one picture."""

    def __init__(self, picture):
        super().__init__()
        self.picture = picture

    def forward(self, _packed):
        return self.picture


def correcting(network, skip, **options):
    """Return a narrow network whose heads are trained."""
    built = network(width=2, skip=skip, instance_norm_level_1=False, **options)
    for part in built.modules():
        if isinstance(part, Head):
            torch.nn.init.normal_(part.conv2d.weight, std=0.1)
    return built


@NETWORKS
def test_an_untrained_network_is_its_skip(network, skip):
    packed = torch.rand(1, 4, 32, 32)
    torch.testing.assert_close(network(width=2, skip=skip)(packed), skip(packed))


def test_untrained_side_heads_return_the_skips_picture_reduced(skip):
    network, pictures = PyNET(width=2, skip=skip), {}
    for level in (1, 2, 3, 4, 5):
        keep = lambda _module, _inputs, output, level=level: pictures.update({level: output})  # noqa: E731
        network.get_submodule(f"conv_l{level}_out").register_forward_hook(keep)
    packed = torch.rand(1, 4, 32, 32)
    network(packed)
    for level, picture in pictures.items():
        torch.testing.assert_close(picture, torch.nn.functional.avg_pool2d(skip(packed), 2**level))


@NETWORKS
def test_a_trained_head_changes_the_skips_picture(network, skip):
    packed = torch.rand(1, 4, 32, 32)
    assert (correcting(network, skip)(packed) - skip(packed)).abs().max() > 1e-3


def test_a_proposal_that_explains_the_mosaic_is_kept(skip):
    cfa, truth = PyNETQxQ(width=2).cfa, torch.rand(1, 3, 32, 32)
    features = SkipFeatures.of(skip, cfa.pack(cfa.mosaic(truth)), cfa)
    torch.testing.assert_close(features.complete(truth), truth + skip(torch.zeros(1, 4, 16, 16)))
    torch.testing.assert_close(features.complete(torch.zeros_like(truth)), features.picture)


@NETWORKS
def test_only_the_first_layer_has_another_shape(network, skip):
    alone, correct = network(width=2).state_dict(), network(width=2, skip=skip).state_dict()
    different = {name for name, value in alone.items() if correct[name].shape != value.shape}
    assert different == {"conv_l1_d1.conv_3a.conv2d.weight"}
    assert {name.split(".")[0] for name in correct.keys() - alone.keys()} == {"skip"}
    name = different.pop()
    assert (alone[name].shape[1], correct[name].shape[1]) == (CHANNELS, CHANNELS_WITH_SKIP)


@NETWORKS
def test_the_skip_does_not_learn(network, skip):
    parameters = dict(network(width=2, skip=skip).named_parameters())
    assert not any(value.requires_grad for name, value in parameters.items() if name.startswith("skip."))
    assert all(value.requires_grad for name, value in parameters.items() if not name.startswith("skip."))


def test_a_flat_surface_has_no_detail_and_the_least_contrast():
    flat = torch.full((1, 3, 16, 16), 0.25)
    features = SkipFeatures.of(Constant(flat), torch.full((1, 4, 8, 8), 0.25), PyNETQxQ(width=2).cfa)
    torch.testing.assert_close(features.contrast, torch.full((1, 1, 16, 16), FLOOR))
    torch.testing.assert_close(features.unit, torch.full((1, 1, 16, 16), HEAD_UNIT * FLOOR))
    planes = features.planes().unflatten(1, (4, 12))
    assert planes.shape == (1, 4, 12, 8, 8)
    torch.testing.assert_close(planes[:, :3], torch.zeros(1, 3, 12, 8, 8))
    assert set(planes[:, 3].mul(3).round().unique().tolist()) == {-2, 4}


def test_contrast_and_unit_scale_with_the_exposure_and_the_planes_do_not():
    cfa, packed, picture = PyNETQxQ(width=2).cfa, torch.rand(1, 4, 16, 16), torch.rand(1, 3, 32, 32)
    bright, dark = (SkipFeatures.of(Constant(scale * picture), packed, cfa) for scale in (1.0, 0.5))
    torch.testing.assert_close(dark.unit, 0.5 * bright.unit, atol=0, rtol=0.01)  # but for the floor
    torch.testing.assert_close(dark.planes(), bright.planes(), atol=0.05, rtol=0)


def rms(features):
    return features.detach().square().mean().sqrt().item()


def test_initial_features_neither_fade_nor_grow(skip):
    network, sizes = PyNETQxQ(width=8, skip=skip, instance_norm_level_1=False), {}
    for name, part in network.named_children():
        if name.startswith("conv_"):
            part.register_forward_hook(lambda _m, _i, out, name=name: sizes.update({name: rms(out)}))
    network(torch.rand(2, 4, 32, 32))
    del sizes["conv_l0_d1"]
    assert all(0.1 < size < 10 and math.isfinite(size) for size in sizes.values()), sizes


@pytest.mark.usefixtures("unchecked_shapes")
def test_pynet_with_a_nona_skip_needs_whole_tiles_at_every_level():
    network = PyNET(width=2, cfa="nona", skip=torch.nn.Identity())
    with pytest.raises(ShapeError, match="multiples of 48 and at least 48"):
        network(torch.rand(1, 4, 32, 32))
