"""The networks as graphs, which are right for inputs other than the traced one."""

import warnings

import pytest
import torch

from zoo.pynet import PyNET, PyNETQxQ

GRAPHS = pytest.mark.parametrize("network", [PyNET, PyNETQxQ])
SKIPS = pytest.mark.parametrize("corrects", [False, True])


def narrow(network, skip, *, corrects):
    built = network(width=2, skip=skip if corrects else None).eval()
    torch.nn.init.normal_(built.conv_l0_d1.conv2d.weight, std=0.1)
    return built


@GRAPHS
@SKIPS
@pytest.mark.usefixtures("unchecked_shapes")
def test_a_trace_is_right_for_another_input(network, skip, corrects):
    model = narrow(network, skip, corrects=corrects)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)
        warnings.filterwarnings("ignore", message="Converting a tensor", module=r"torch\.nn")  # instance norm's
        traced = torch.jit.trace(model, torch.rand(1, 4, 32, 32))
    other = torch.rand(1, 4, 32, 32)
    torch.testing.assert_close(traced(other), model(other))  # pyright: ignore[reportCallIssue]


@GRAPHS
@SKIPS
@pytest.mark.usefixtures("unchecked_shapes")
def test_an_export_is_right_for_another_input(network, skip, corrects):
    model = narrow(network, skip, corrects=corrects)
    exported = torch.export.export(model, (torch.rand(1, 4, 32, 32),)).module()
    other = torch.rand(1, 4, 32, 32)
    # on a CPU the network computes its instance norms by another operation than the graph
    torch.testing.assert_close(exported(other), model(other), atol=1e-4, rtol=1e-3)


@GRAPHS
def test_weights_saved_by_a_parallel_wrapper_load_without_their_prefix(network):
    model, other = network(width=2), network(width=2)
    saved = {f"module.{name}": value for name, value in model.state_dict().items()}
    other.load_state_dict({name.removeprefix("module."): value for name, value in saved.items()}, strict=True)
    packed = torch.rand(1, 4, 32, 32)
    torch.testing.assert_close(model.eval()(packed), other.eval()(packed))
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict(saved)
