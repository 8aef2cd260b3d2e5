"""The networks of the published checkpoints, recognised by the names and shapes of their weights."""

from collections.abc import Mapping

from torch import Tensor, nn

from compresskit.errors import CheckpointError
from zoo.pynet.pynet import PyNET
from zoo.pynet.pynet_qxq import PyNETQxQ

NORM_1 = "conv_l1_d5.conv_3a.instance.weight"
"""A weight that a network has if it normalises in level 1."""


NORM_2 = "conv_l2_d1.conv_3a.instance.weight"
"""A weight that a network has if it normalises in levels 2 to 5."""


def network_of(state: Mapping[str, Tensor]) -> nn.Module:
    """Return an untrained PyNET or PyNET-QxQ, without a skip, that these weights fit.

    The weights may be those of PyNET-QxQ's release and of PyNET-PyTorch, whose names may start with `module.`, or any
    others of these two networks.

    Args:
        state: Weights by name.

    Raises:
        CheckpointError: The weights fit neither network, or belong to one that corrects a skip: names do not tell its
            array and the size of the skip.
    """
    names = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    first = names.get("conv_l1_d1.conv_3a.conv2d.weight")
    if first is None:
        raise CheckpointError(
            f"neither PyNET nor PyNET-QxQ: there is no 'conv_l1_d1', but {', '.join(list(names)[:3])}"
        )
    if any(name.startswith("skip.") for name in names):
        raise CheckpointError("weights of a network with a skip need the recipe that they were trained by beside them")
    if "conv_t0.upchannel.weight" in names:
        return PyNETQxQ(first.shape[0], instance_norm_level_1=NORM_1 in names)
    return PyNET(first.shape[0], instance_norm=NORM_2 in names, instance_norm_level_1=NORM_1 in names)
