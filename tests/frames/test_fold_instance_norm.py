import torch

from zoo.frames.fold_instance_norm import fold, frame_statistics, instance_norms, sample_statistics
from zoo.frames.reach import reach
from zoo.frames.tiling import divide
from zoo.pynet import PyNET, PyNETQxQ
from zoo.raw import CFA


def network_with_norms(kind=PyNETQxQ):
    torch.manual_seed(4)
    network = kind(2).eval()
    for part in network.modules():
        if isinstance(part, torch.nn.InstanceNorm2d):
            torch.nn.init.uniform_(part.weight, 0.5, 2.0)
            torch.nn.init.normal_(part.bias)
    return network


def packed_tiles(packed, side):
    """Yield tiles of packed planes with ample surroundings, as `frame_statistics` takes them."""
    height, width = packed.shape[2:]
    tiling = divide(height, width, period=4, reach=60, most=side * 120)
    assert len(tiling) > 1
    for tile in tiling:
        rows, columns = (slice(span.outer_start, span.outer_stop) for span in (tile.rows, tile.columns))
        yield packed[:, :, rows, columns], (tile.rows.inner, tile.columns.inner)


def test_folded_frame_statistics_make_the_whole_frames_picture():
    network, packed = network_with_norms(), torch.rand(1, 4, 168, 120)
    passes = []

    def tiles():
        passes.append(1)
        return packed_tiles(packed, 130)

    folded = fold(network, frame_statistics(network, tiles))
    assert len(passes) == 14  # seven blocks with norms, two behind each other in each
    torch.testing.assert_close(folded(packed), network(packed), atol=1e-5, rtol=0)
    assert instance_norms(folded) == {}
    assert len(instance_norms(network)) == 48
    assert reach(folded, CFA.of("qxq")) == 120


def test_sample_statistics_of_one_sample_are_those_that_the_network_uses():
    network, packed = network_with_norms(PyNET), torch.rand(1, 4, 64, 64)
    folded = fold(network, sample_statistics(network, [packed]))
    torch.testing.assert_close(folded(packed), network(packed), atol=1e-5, rtol=0)


def test_sample_statistics_pool_the_samples():
    network, samples = network_with_norms(), torch.rand(3, 4, 16, 16)
    samples[1] *= 0.2
    norm_inputs = []
    network.conv_l1_d5.conv_3a.instance.register_forward_pre_hook(lambda _, inputs: norm_inputs.append(inputs[0]))
    mean, variance = sample_statistics(network, samples.split(1))["conv_l1_d5.conv_3a"]
    network(samples)
    values = norm_inputs[-1].double()
    torch.testing.assert_close(mean, values.mean((0, 2, 3)))
    torch.testing.assert_close(variance, values.var((0, 2, 3), correction=0))


def test_a_folded_networks_weights_load_into_one_without_instance_norm():
    network, packed = network_with_norms(), torch.rand(2, 4, 16, 16)
    folded = fold(network, sample_statistics(network, [packed]))
    other = PyNETQxQ(2, instance_norm_level_1=False).eval()
    other.load_state_dict(folded.state_dict())
    assert torch.equal(other(packed), folded(packed))
