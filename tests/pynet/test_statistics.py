import torch

from zoo.frames.fold_instance_norm import folded, frame_statistics, normalised, sample_statistics
from zoo.frames.reach import reach
from zoo.frames.tiling import divide
from zoo.pynet import PyNET, PyNETQxQ
from zoo.raw import CFA


def network(kind=PyNETQxQ, **options):
    torch.manual_seed(4)
    made = kind(2, **options).eval()
    for part in made.modules():
        if isinstance(part, torch.nn.InstanceNorm2d):
            torch.nn.init.uniform_(part.weight, 0.5, 2.0)
            torch.nn.init.normal_(part.bias)
    return made


def packed_tiles(packed, side):
    """Tiles of packed planes with ample surroundings, as `frame_statistics` wants them."""
    height, width = packed.shape[2:]
    grid = divide(height, width, period=4, reach=60, most=side * 120)
    assert len(grid) > 1
    for tile in grid:
        rows, columns = (slice(span.outer_start, span.outer_stop) for span in (tile.rows, tile.columns))
        yield packed[:, :, rows, columns], (tile.rows.kept, tile.columns.kept)


def test_frame_statistics_folded_give_the_whole_frame():
    made, packed = network(), torch.rand(1, 4, 168, 120)
    passes = []

    def tiles():
        passes.append(1)
        return packed_tiles(packed, 130)

    fixed = folded(made, frame_statistics(made, tiles))
    assert len(passes) == 14  # seven blocks with norms, two behind each other in each
    torch.testing.assert_close(fixed(packed), made(packed), atol=1e-5, rtol=0)
    assert normalised(fixed) == {}
    assert len(normalised(made)) == 48
    assert reach(fixed, CFA.of("qxq")) == 120


def test_sample_statistics_of_one_sample_are_those_that_the_network_uses():
    made, packed = network(PyNET), torch.rand(1, 4, 64, 64)
    torch.testing.assert_close(folded(made, sample_statistics(made, [packed]))(packed), made(packed), atol=1e-5, rtol=0)


def test_sample_statistics_pool_the_samples():
    made, samples = network(), torch.rand(3, 4, 16, 16)
    samples[1] *= 0.2
    seen = []
    made.conv_l1_d5.conv_3a.instance.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    apart = sample_statistics(made, samples.split(1))["conv_l1_d5.conv_3a"]
    made(samples)
    values = seen[-1].double()
    torch.testing.assert_close(apart[0], values.mean((0, 2, 3)))
    torch.testing.assert_close(apart[1], values.var((0, 2, 3), correction=0))


def test_a_folded_networks_weights_are_those_of_one_without_instance_norm():
    made, packed = network(), torch.rand(2, 4, 16, 16)
    fixed = folded(made, sample_statistics(made, [packed]))
    other = PyNETQxQ(2, instance_norm_level_1=False).eval()
    other.load_state_dict(fixed.state_dict())
    assert torch.equal(other(packed), fixed(packed))
