import pytest
import torch

from compresskit.errors import RecipeError, ShapeError
from zoo.classify import PlainNet, ResidualNet


def _parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("network", [PlainNet(4, channels=3, classes=7), ResidualNet(4, channels=3, classes=7)])
def test_a_batch_of_images_gets_a_score_for_each_class(network):
    assert network(torch.rand(5, 3, 12, 10)).shape == (5, 7)


@pytest.mark.parametrize("network", [PlainNet(2, levels=4), ResidualNet(2, levels=4, blocks=1)])
def test_each_level_halves_the_size_and_doubles_the_channels(network):
    maps = []
    for level in network.levels:
        level.register_forward_hook(lambda *call: maps.append(tuple(call[2].shape[1:])))
    network(torch.rand(2, 1, 8, 8))
    assert maps == [(2, 8, 8), (4, 4, 4), (8, 2, 2), (16, 1, 1)]


def test_the_plain_network_has_the_parameters_counted_by_hand():
    convolutions = 9 * (1 * 4 + 4 * 8 + 8 * 16)
    norms = 2 * (4 + 8 + 16)
    assert _parameters(PlainNet(4)) == convolutions + norms + 16 * 10 + 10


def test_the_residual_network_has_the_parameters_counted_by_hand():
    stem = 9 * 4 + 2 * 4
    level_0 = 2 * (9 * 4 * 4 + 2 * 4)
    level_1 = (9 * 4 * 8 + 2 * 8) + (9 * 8 * 8 + 2 * 8) + (4 * 8 + 2 * 8)  # with a shortcut of 1 x 1
    assert _parameters(ResidualNet(4, levels=2, blocks=1)) == stem + level_0 + level_1 + 8 * 10 + 10


def test_a_residual_block_whose_convolutions_return_zero_is_the_identity():
    network = ResidualNet(2, levels=1, blocks=1).eval()
    torch.nn.init.zeros_(network.levels[0][0].second[1].weight)
    features = torch.rand(1, 2, 4, 4)
    assert torch.equal(network.levels(features), features)


@pytest.mark.parametrize(("network", "option"), [(PlainNet, "levels"), (ResidualNet, "blocks"), (PlainNet, "width")])
def test_a_network_of_size_0_is_refused(network, option):
    with pytest.raises(RecipeError, match=f"{option} must be a whole number of at least 1, got 0"):
        network(**{option: 0})


@pytest.mark.parametrize("network", [PlainNet(2), ResidualNet(2, levels=1)])
def test_images_of_other_channels_are_refused(network):
    with pytest.raises(ShapeError, match=r"for images of 1 channels, got a batch of \(2, 3, 8, 8\)"):
        network(torch.rand(2, 3, 8, 8))
